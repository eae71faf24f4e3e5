"""What a WebSocket carries, whichever server holds it: one that was refused, or a session within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from celery_livelog.access.tokens import Writer
from celery_livelog.cancel import cancel
from celery_livelog.web.counts import Counts
from celery_livelog.web.gate_caps import Place
from celery_livelog.web.refusal import Refusal

Send = Callable[[bytes], Awaitable[Any]]
Close = Callable[[int, str], None]


class Session(Protocol):
    """A conversation over a WebSocket that was accepted."""

    def start(self) -> None:
        """Begin to speak."""

    def receive(self, message: str | bytes) -> Awaitable[None] | None:
        """Take a message; what is given is awaited before the next one is read."""

    async def stop(self) -> None:
        """The connection is gone: end everything."""


class Writers(Protocol):
    """What takes logs from elsewhere."""

    def session(
        self, send: Send, close: Close, *, writer: Writer | None, authenticate: Callable[[str], Writer] | None
    ) -> Session:
        """A session in which somebody writes."""


class Refused:
    """Says why, and closes: only then do browsers learn of it."""

    def __init__(self, refusal: Refusal, send: Send, close: Close) -> None:
        self._refusal = refusal
        self._send = send
        self._close = close
        self._telling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Say it."""
        self._telling = asyncio.create_task(self._tell())

    def receive(self, message: str | bytes) -> None:
        """Hear nothing."""

    async def stop(self) -> None:
        """End it."""
        if self._telling is not None:
            await cancel(self._telling)

    async def _tell(self) -> None:
        error = {"type": "error", "code": self._refusal.code, "message": str(self._refusal)}
        await self._send(msgspec.json.encode(error))
        self._close(self._refusal.close_code, self._refusal.code)


class Limited:
    """A session whose messages are not too long, that is counted, and that gives its place back.

    :param kind: what it is counted as.
    :param longest: bytes of a message that comes in.
    :param make: makes the session, given how to send and to close.
    """

    def __init__(
        self, kind: str, longest: int, place: Place, counts: Counts, make: Callable[[Send, Close], Session],
        send: Send, close: Close,
    ) -> None:  # fmt: skip
        self._kind = kind
        self._longest = longest
        self._place = place
        self._counts = counts
        self._send = send
        self._close = close
        self._session = make(self._deliver, close)
        self._open = False

    def start(self) -> None:
        """Begin."""
        self._open = True
        self._counts.sockets[self._kind] += 1
        self._counts.opened[self._kind] += 1
        self._session.start()

    def receive(self, message: str | bytes) -> Awaitable[None] | None:
        """Pass a message on, or close the connection."""
        if len(message) > self._longest:
            self._counts.refusals["too_large"] += 1
            return self._refuse(Refusal(413, f"a message of {len(message)} bytes; expected {self._longest} at most"))
        return self._session.receive(message)

    async def stop(self) -> None:
        """End it."""
        if self._open:
            self._counts.sockets[self._kind] -= 1
            self._open = False
        self._place.release()
        await self._session.stop()

    async def _deliver(self, message: bytes) -> None:
        self._counts.messages += 1
        self._counts.bytes += len(message)
        await self._send(message)

    async def _refuse(self, refusal: Refusal) -> None:
        await Refused(refusal, self._send, self._close)._tell()
