"""Whether a Flower may show logs at all, from how it was started, and to whom. Pure; who logs in is Flower's matter."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from celery_livelog.permissions import EVERYTHING, Viewer
from celery_livelog.web.gate_addresses import is_loopback

CLOSED = (
    "Task logs are closed in a Flower without authentication: start it with --basic_auth or --auth, "
    "let it listen on loopback only (--address=127.0.0.1), or set livelog_flower_unauthenticated = True "
    "in the Celery app to show them to everyone who can reach it."
)


def is_open(options: Any, host: str, unauthenticated: bool) -> bool:
    """Whether logs may be shown to those whom Flower itself lets in.

    :param options: Flower's own options.
    :param host: the name that the request was sent to. A web page elsewhere can point a name of its own at
        127.0.0.1 and read what it finds there, so a Flower on loopback must also be called by a loopback name.
    :param unauthenticated: the setting ``livelog_flower_unauthenticated``.
    """
    if unauthenticated or options.auth or options.basic_auth:
        return True
    return bool(options.unix_socket) or (is_loopback(options.address or "") and is_loopback(host))


def viewer_of(user: Any, request: Any, basic_auth: Any) -> Viewer:
    """Who asks a Flower.

    :param user: whom Flower has let in: the address of who has logged in by OAuth, else True; None for nobody yet.
    :param basic_auth: Flower's option; where it is set, the password that came with the request was checked.
    """
    name = user if isinstance(user, str) else _basic_name(request.headers) if basic_auth else ""
    return Viewer(via="flower", name=name, address=request.remote_ip or "", seen=EVERYTHING if user else (), user=user)


def _basic_name(headers: Any) -> str:
    _, credentials = headers["Authorization"].split()
    return b64decode(credentials).decode().partition(":")[0]
