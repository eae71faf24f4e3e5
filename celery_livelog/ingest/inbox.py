"""What a connection has sent and is not dealt with yet: bounded, and no faster than it may come."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from celery_livelog.ingest.limits import Bucket

#: Messages and bytes that may wait; then nothing more is read from the connection.
_MOST, _MOST_BYTES = 1000, 2 * 1024 * 1024
#: Messages and bytes a second that one connection may send in the long run, and how many seconds of these at once.
_MESSAGES, _BYTES, _SECONDS = 20_000, 16 * 1024 * 1024, 3.0


class Inbox:
    """The messages, in order."""

    def __init__(self) -> None:
        self._waiting: deque[str | bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._there = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._messages = Bucket(_MESSAGES, _SECONDS)
        self._sizes = Bucket(_BYTES, _SECONDS)

    async def put(self, message: str | bytes) -> None:
        """Take a message; returns when the next one may come."""
        self._waiting.append(message)
        self._bytes += len(message)
        self._there.set()
        if len(self._waiting) >= _MOST or self._bytes >= _MOST_BYTES:
            self._room.clear()
        now = time.monotonic()
        pause = max(self._messages.take(1, now), self._sizes.take(len(message), now))
        if pause:
            await asyncio.sleep(pause)
        await self._room.wait()

    def close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._there.set()

    async def take(self) -> list[str | bytes]:
        """All that waits: at least one message, or none when nothing more comes."""
        await self._there.wait()
        if not self._closed:
            self._there.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        self._room.set()
        return taken
