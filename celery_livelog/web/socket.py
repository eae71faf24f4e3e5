"""A session over a WebSocket, as a Tornado handler without a server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from tornado.iostream import IOStream
from tornado.websocket import WebSocketHandler

from celery_livelog.permissions import Viewer
from celery_livelog.viewer import ViewerSession
from celery_livelog.web.frames import send
from celery_livelog.web.sessions import Session

#: Bytes of a message beyond which a connection is cut while it comes in. Sessions refuse far shorter ones, and say so.
_CUT = 1 << 20


#: Messages of one connection that are taken before others have their turn; Tornado itself takes some 250.
_AT_ONCE = 16
#: Seconds that somebody has to hear of a close who still sends.
_PATIENCE = 0.2


class SessionSocket(WebSocketHandler):
    """Carries the messages of one session."""

    _session: Session | None = None
    #: What it goes over, once it was closed from this side.
    _closed: IOStream | None = None
    _taken = _late = 0

    def initialize(self) -> None:
        self.gone = asyncio.Event()

    @property
    def ping_interval(self) -> float:
        """Seconds between pings, which keep proxies from closing a quiet connection and find dead ones."""
        return 20

    @property
    def max_message_size(self) -> int:
        """Bytes that may come at once."""
        return _CUT

    async def session(self) -> Session:
        """The session, made for this request when it was accepted."""
        raise NotImplementedError

    async def open(self, *args: str, **kwargs: str) -> None:
        session = await self.session()
        if self.gone.is_set():
            await session.stop()
            return
        self._session = session
        session.start()

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        self._taken += 1
        if self._closed is not None:
            self._late += 1
            return None if self._late < _AT_ONCE or self._closed.closed() else self._cut(self._closed)
        taking = None if self._session is None else self._session.receive(message)
        return asyncio.sleep(0) if taking is None and self._taken % _AT_ONCE == 0 else taking

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        if self.ws_connection is not None:
            self._closed = self.ws_connection.stream
        super().close(code, reason)

    def on_close(self) -> None:
        self.gone.set()
        if self._session is not None:
            self._stopping = asyncio.ensure_future(self._session.stop())

    async def _cut(self, stream: IOStream) -> None:
        """Read no further: who sends more after a close has not heard of it, and is cut off soon."""
        await asyncio.sleep(_PATIENCE)
        stream.close()

    async def deliver(self, message: bytes) -> None:
        """Send a message; done when the network has taken it."""
        await send(self.ws_connection, message)


class ViewerSocket(SessionSocket):
    """A viewer whom the server around it knows; Tornado's check that the page is of the same origin stays in force."""

    #: Who it is, as whoever serves this knows it; None for nobody.
    viewer: Viewer | None = None

    @property
    def max_message_size(self) -> int:
        """Bytes that a viewer may send at once; what it has to say is short."""
        return 64 * 1024

    async def session(self) -> Session:
        return ViewerSession(self.settings["livelog_reader"], self.deliver, self.close, viewer=self.viewer)
