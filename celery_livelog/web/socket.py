"""A viewer's session over a WebSocket, as a Tornado handler without a server of its own.

Whoever serves it does what ``web.api`` asks for.
"""

from __future__ import annotations

import asyncio

from tornado.websocket import WebSocketClosedError, WebSocketHandler

from celery_livelog.permissions import Viewer
from celery_livelog.viewer import ViewerSession


class ViewerSocket(WebSocketHandler):
    """Carries the messages of one viewer; Tornado's check that the page is of the same origin stays in force."""

    _session: ViewerSession | None = None

    @property
    def ping_interval(self) -> float:
        """Seconds between pings, which keep proxies from closing a quiet connection and find dead ones."""
        return 20

    @property
    def max_message_size(self) -> int:
        """Bytes that a viewer may send at once; what it has to say is short."""
        return 64 * 1024

    def viewer(self) -> Viewer | None:
        """Who it is, as whoever serves this knows it; None: a token has to tell."""
        return None

    def open(self, *args: str, **kwargs: str) -> None:
        self._session = ViewerSession(self.settings["livelog_reader"], self._deliver, self.close, viewer=self.viewer())
        self._session.start()

    def on_message(self, message: str | bytes) -> None:
        if self._session is not None:
            self._session.receive(message)

    def on_close(self) -> None:
        if self._session is not None:
            self._stopping = asyncio.ensure_future(self._session.stop())

    async def _deliver(self, message: bytes) -> None:
        try:
            await self.write_message(message)
        except WebSocketClosedError:
            pass  # on_close stops the viewer
