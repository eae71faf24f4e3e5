"""A request or the beginning of a WebSocket, whichever server took it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, and how.

    :param path: below `root`, still percent-encoded: an id may hold a slash.
    :param root: the path that all of livelog's are below; no slash at its end.
    :param headers: their names in lower case; several of one name are joined with commas.
    :param address: the IP address of who asks; empty where it is not known.
    :param socket: whether this is the beginning of a WebSocket.
    :param context: what the server's framework knows of the request.
    """

    path: str
    method: str = "GET"
    root: str = ""
    query: str = ""
    headers: Mapping[str, str]
    address: str = ""
    scheme: str = "http"
    socket: bool = False
    context: Any = None

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments of the URL, of each the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def host(self) -> str:
        """What the server was called, with the port if there was one."""
        return self.headers.get("host", "")

    @property
    def host_name(self) -> str:
        """The same without the port; empty when it is none."""
        try:
            return urlsplit(f"//{self.host}").hostname or ""
        except ValueError:
            return ""

    @property
    def subprotocols(self) -> list[str]:
        """The WebSocket subprotocols that are offered."""
        return [name.strip() for name in self.headers.get("sec-websocket-protocol", "").split(",")]
