"""The logs as an ASGI app of their own, to mount in Starlette, FastAPI or Django, or to serve as it is.

It only carries: `web.site` tells who may ask and what is answered. Nothing begins before the first request, so that it
needs no lifespan, which mounted apps do not get.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from celery_livelog.access.rule import load
from celery_livelog.access.tokens import Tokens
from celery_livelog.cancel import cancel
from celery_livelog.errors import SettingsError, hide_in_messages
from celery_livelog.ingest import Ingest
from celery_livelog.reader import Reader
from celery_livelog.settings import Settings, enabled
from celery_livelog.web.answers import Streamed, Whole
from celery_livelog.web.gate import Gate, subprotocol_of
from celery_livelog.web.gate_caps import Limits
from celery_livelog.web.gate_origins import Origins
from celery_livelog.web.gate_strangers import Strangers, nobody, users, visitors
from celery_livelog.web.refusal import BrokenOff
from celery_livelog.web.request import Request
from celery_livelog.web.sessions import Session
from celery_livelog.web.site import Site

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def app(
    celery_app: Any,
    *,
    viewer_of: Callable[[Any], Any] | None = None,
    origins: Iterable[str] = (),
    prefix: str = "",
    limits: Limits | None = None,
) -> Logs:
    """An ASGI app with the logs of a Celery app.

    :param viewer_of: who sends a request, from its scope: a `Viewer`, or None for nobody; may be a coroutine. Who
        brings a token is known by that.
    :param origins: pages of other origins that may ask, such as ``https://app.example``.
    :param prefix: the path that it is served below, where nothing is mounted.
    :param limits: the most that is served at once.
    :raises SettingsError: when the settings or the site's rule cannot be used, or say nothing of who may see what.
    """
    if not enabled(celery_app.conf):
        return Logs(None, prefix)
    settings = Settings.from_conf(celery_app.conf)
    hide_in_messages(settings.redactor)
    gate = _gate(settings, viewer_of, Origins(origins))
    if settings.permission is not None:
        load(settings.permission)  # now, and not with the first request: whoever starts this is to know

    def make() -> tuple[Site, AsyncExitStack]:
        ends = AsyncExitStack()
        reader = Reader(settings, celery_app)
        ends.push_async_callback(reader.close)
        writers = Ingest(settings) if settings.secret_key else None  # without a key nobody has a token to write
        if writers is not None:
            ends.push_async_callback(writers.close)
        return Site(settings, reader, gate, limits or Limits(), writers), ends

    return Logs(make, prefix)


def _gate(settings: Settings, viewer_of: Callable[[Any], Any] | None, origins: Origins) -> Gate:
    tokens = Tokens(settings.secret_key)
    strangers: Strangers = nobody
    if viewer_of is not None:
        strangers = users(viewer_of)
    elif settings.permission is not None and not tokens:
        strangers = visitors("asgi", origins, ruled=True)
    elif not tokens:
        raise SettingsError(
            "nobody could see a log: give viewer_of, or set livelog_secret_key (for tokens) or livelog_permission (a "
            "rule of your own)"
        )
    return Gate(tokens=tokens, strangers=strangers, origins=origins)


class Logs:
    """The app. What it serves lives on the loop that requests come on.

    :param make: makes that, and what ends it; None while livelog is off, when nothing is there.
    """

    def __init__(self, make: Callable[[], tuple[Site, AsyncExitStack]] | None, prefix: str) -> None:
        self._make = make
        self._prefix = "/" + prefix.strip("/") if prefix.strip("/") else ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._site: Site | None = None
        self._ends = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        site = self._current()
        request = _request(scope, self._prefix)
        if scope["type"] == "http":
            if site is None or request is None:
                await _answer(Whole("application/json", b'{"error":"not found"}', status=404), send)
            else:
                await _while_connected(_serve(site, request, send), receive)
        elif scope["type"] == "websocket":
            await receive()  # what asks for the connection
            if site is None or request is None or request.path not in site.sockets:
                await send({"type": "websocket.close"})  # before it is accepted: 403
            else:
                await _Socket(site, request, receive, send).serve()

    async def close(self) -> None:
        """Let go of all connections to the stores, after what was taken is written."""
        self._site = self._loop = None
        await self._ends.aclose()

    def _current(self) -> Site | None:
        loop = asyncio.get_running_loop()
        if self._make is not None and self._loop is not loop:
            self._loop = loop
            self._site, self._ends = self._make()
        return self._site

    async def _live(self, receive: Receive, send: Send) -> None:
        """Close with a server that asks for it."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


def _request(scope: Scope, prefix: str) -> Request | None:
    """What the server has taken, as the site wants it; None for what is not below its root."""
    root = scope.get("root_path", "").rstrip("/") + prefix
    raw = scope.get("raw_path")
    path = raw.decode("ascii", "replace").partition("?")[0] if raw else scope["path"]
    if root and path != root and not path.startswith(f"{root}/"):
        return None
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    scheme = str(scope.get("scheme") or "http")
    return Request(
        method=scope.get("method", "GET"),
        path=path[len(root) :] or "/",
        root=root,
        query=scope.get("query_string", b"").decode("latin-1"),
        headers=headers,
        address=(scope.get("client") or ("",))[0] or "",
        scheme={"ws": "http", "wss": "https"}.get(scheme, scheme),
        socket=scope["type"] == "websocket",
        context=scope,
    )


async def _serve(site: Site, request: Request, send: Send) -> None:
    async with site.answering(request) as answer:
        with suppress(BrokenOff):  # the server cuts what is left open
            await _answer(answer, send)


async def _answer(answer: Whole | Streamed, send: Send) -> None:
    headers = {**answer.headers, "Content-Type": answer.content_type}
    if isinstance(answer, Whole) and answer.status not in (204, 304):
        headers["Content-Length"] = str(len(answer.body))
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    if isinstance(answer, Whole):
        await send({"type": "http.response.body", "body": answer.body})
        return
    async for piece in answer.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _while_connected(work: Awaitable[None], receive: Receive) -> None:
    """Do `work`, and drop it when the client goes away."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        await cancel(working, leaving)


class _Socket:
    """A WebSocket, from its acceptance to its close, whoever closes it."""

    def __init__(self, site: Site, request: Request, receive: Receive, send: Send) -> None:
        self._site = site
        self._request = request
        self._receive = receive
        self._send = send
        self._closing: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Accept it and carry its messages."""
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol_of(self._request)})
        session = await self._site.session(self._request, self._deliver, self._close)
        session.start()
        hearing = asyncio.ensure_future(self._hear(session))
        try:
            await asyncio.wait([hearing, self._closing], return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                hearing.result()
            else:
                code, reason = self._closing.result()
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except OSError:
            pass  # gone already
        finally:
            await cancel(hearing)
            await session.stop()

    async def _hear(self, session: Session) -> None:
        while (message := await self._receive())["type"] != "websocket.disconnect":
            text = message.get("text")
            taking = session.receive(message.get("bytes") or b"" if text is None else text)
            if taking is not None:
                await taking

    async def _deliver(self, message: bytes) -> None:
        if not self._closing.done():
            await self._send({"type": "websocket.send", "text": message.decode()})

    def _close(self, code: int, reason: str) -> None:
        if not self._closing.done():
            self._closing.set_result((code, reason))
