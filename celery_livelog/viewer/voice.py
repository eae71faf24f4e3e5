"""Says things to a viewer without waiting for it: each is on its way by itself, until all is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from celery_livelog.cancel import cancel


class Voice:
    """What is being said.

    :param send: sends a message; its completion is the transport's backpressure.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[Any]]) -> None:
        self._send = send
        self._said: set[asyncio.Task[None]] = set()

    def say(self, message: bytes) -> None:
        """Send a message."""

        async def tell() -> None:
            await self._send(message)

        self.begin(tell())

    def begin(self, saying: Coroutine[Any, Any, None]) -> None:
        """Begin to say something longer."""
        task = asyncio.create_task(saying)
        self._said.add(task)
        task.add_done_callback(self._done)

    async def stop(self) -> None:
        """Fall silent."""
        await cancel(*self._said)

    def _done(self, saying: asyncio.Task[None]) -> None:
        self._said.discard(saying)
        if not saying.cancelled():
            saying.exception()  # of one that is gone: whoever carries the messages tells that, too
