"""Who those without a token are: nobody, everybody who gets this far, or whom the site around it knows."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from celery_livelog.permissions import EVERYTHING, Viewer
from celery_livelog.web.gate_addresses import is_address
from celery_livelog.web.gate_origins import Origins
from celery_livelog.web.refusal import Refusal
from celery_livelog.web.request import Request

#: Who somebody without a token is; None for nobody. May raise `Refusal`.
Strangers = Callable[[Request], Awaitable["Viewer | None"]]


async def nobody(request: Request) -> Viewer | None:
    """Strangers where a token is asked for."""
    return None


def visitors(via: str, origins: Origins, *, ruled: bool) -> Strangers:
    """Strangers where everybody may ask who comes this far.

    :param ruled: whether the site's own rule is asked about each; else they see everything.
    """

    async def visitor(request: Request) -> Viewer | None:
        name = request.host_name
        if not origins.knows(name) and not (ruled and is_address(name)):
            raise Refusal(
                403,
                f"this server is not known as {name[:200]!r}: call it by its address or as localhost, or allow the "
                "origin of its pages",
            )
        if not ruled and "x-forwarded-for" in request.headers:
            # Whoever is behind a proxy on this machine need not be on this machine.
            raise Refusal(
                403,
                "everyone on its own machine sees everything here, and nobody through a proxy: set livelog_secret_key "
                "or livelog_permission",
            )
        return Viewer(via=via, address=request.address, seen=EVERYTHING)

    return visitor


def users(viewer_of: Callable[[Any], Any]) -> Strangers:
    """Strangers whom the site around it knows, such as by a cookie.

    :param viewer_of: from the request's context to a viewer, or None for nobody; may be a coroutine.
    """

    async def user(request: Request) -> Viewer | None:
        found = viewer_of(request.context)
        viewer = await found if inspect.isawaitable(found) else found
        if viewer is None:
            return None
        if not isinstance(viewer, Viewer):
            raise TypeError(f"viewer_of has given {type(viewer).__name__}; expected a Viewer or None")
        if request.socket and "origin" not in request.headers and "authorization" not in request.headers:
            # A browser always says which page has opened a WebSocket; a cookie alone does not say who did.
            raise Refusal(403, "a WebSocket without Origin; expected one that a page has opened, or a token")
        return viewer

    return user
