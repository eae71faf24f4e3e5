"""A session over a WebSocket, as a Tornado handler without a server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from tornado.websocket import WebSocketHandler

from celery_livelog.permissions import Viewer
from celery_livelog.viewer import ViewerSession
from celery_livelog.web.frames import send
from celery_livelog.web.sessions import Session

#: Bytes of a message beyond which a connection is cut while it comes in. Sessions refuse far shorter ones, and say so.
_CUT = 1 << 20


class SessionSocket(WebSocketHandler):
    """Carries the messages of one session."""

    _session: Session | None = None
    _gone = False

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
        if self._gone:
            await session.stop()
            return
        self._session = session
        session.start()

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        return None if self._session is None else self._session.receive(message)

    def on_close(self) -> None:
        self._gone = True
        if self._session is not None:
            self._stopping = asyncio.ensure_future(self._session.stop())

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
