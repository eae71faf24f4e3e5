"""Which pages may ask: those of the server's own origin, and those of the origins that were named. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from celery_livelog.errors import SettingsError
from celery_livelog.web.gate_addresses import is_loopback

_ORIGIN = re.compile(r"(https?)://([^/?#@\s,]+)", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


class Origins:
    """The named ones.

    :param named: such as ``https://app.example``.
    :raises SettingsError: for one that is no origin.
    """

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._named = frozenset(map(_checked, named))
        self._hosts = frozenset(urlsplit(origin).hostname for origin in self._named)

    def __iter__(self) -> Iterable[str]:
        return iter(sorted(self._named))

    def allows(self, origin: str, scheme: str, host: str) -> bool:
        """Whether a page of `origin` may ask a server that it has called `host`."""
        page = _normal(origin)
        return bool(page) and (page == _normal(f"{scheme}://{host}") or page in self._named)

    def knows(self, host_name: str) -> bool:
        """Whether this is a name of the server itself: a loopback one, or that of a named origin.

        A page elsewhere can point a name of its own at a server that only its visitor reaches, and is then of the same
        origin. Whom the server trusts for where they are has to call it by a name that it knows.
        """
        return is_loopback(host_name) or host_name.lower() in self._hosts


def _checked(origin: str) -> str:
    normal = _normal(origin.removesuffix("/"))
    if not normal:
        raise SettingsError(f"the origin is {origin!r}; expected one such as https://app.example, without a path")
    return normal


def _normal(origin: str) -> str:
    """An origin as it compares; empty when it is none, such as ``null``."""
    match = _ORIGIN.fullmatch(origin)
    if not match:
        return ""
    scheme = match[1].lower()
    try:
        parts = urlsplit(f"{scheme}://{match[2]}")
        return f"{scheme}://{(parts.hostname or '').lower()}:{parts.port or _PORTS[scheme]}"
    except ValueError:
        return ""
