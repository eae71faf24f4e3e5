"""What is on its way to one viewer: no more than it takes, and nothing that waits for it here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from celery_livelog.viewer.messages import WINDOW, Message


class Gone(Exception):
    """Raised when nothing can be sent any more; whoever carries the messages tells the session that the viewer left."""


class Flow:
    """Sends messages, each when the viewer can take it.

    A viewer that acknowledges has at most `WINDOW` bytes before it, and one message more. One that is paused gets none.

    :param send: sends a message; its completion is the transport's backpressure.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[Any]]) -> None:
        self._send = send
        self._outstanding: deque[tuple[str, int, int]] = deque()
        self._bytes = 0
        self._acknowledges = False
        self._paused = False
        self._open = asyncio.Event()
        self._open.set()
        self._since: float | None = None
        #: Whether a message is on its way.
        self.sending = False

    def waits(self, now: float) -> float:
        """Seconds for which a message has been on its way, or has waited until it may be."""
        return 0.0 if self._since is None else now - self._since

    def stalled(self, now: float) -> float:
        """The same, but for a viewer that is paused."""
        return 0.0 if self._paused else self.waits(now)

    async def deliver(self, message: Message) -> None:
        """Send a message, as soon as the viewer can take it."""
        self._since = asyncio.get_running_loop().time()
        try:
            if not self._open.is_set():
                await self._open.wait()
            self.sending = True
            await self._send(message.data)
        except Exception as error:
            raise Gone from error
        finally:
            self.sending, self._since = False, None
        if self._acknowledges and message.n:
            self._outstanding.append((message.attempt, message.n, len(message.data)))
            self._bytes += len(message.data)
            self._settle()

    def acknowledge(self, attempt: str, n: int) -> None:
        """Let go of all up to what is acknowledged; one that names no attempt is of the oldest."""
        self._acknowledges = True
        of = attempt or (self._outstanding[0][0] if self._outstanding else "")
        reached = [place for place, (name, last, _) in enumerate(self._outstanding, 1) if name == of and last <= n]
        for _ in range(max(reached, default=0)):
            self._bytes -= self._outstanding.popleft()[2]
        if reached:
            self._touch()
        self._settle()

    def pause(self) -> None:
        """Send nothing."""
        self._paused = True
        self._settle()

    def resume(self) -> None:
        """Go on sending."""
        self._paused = False
        self._touch()
        self._settle()

    def restart(self) -> None:
        """Forget what was sent: another log begins."""
        self._outstanding.clear()
        self._bytes = 0
        self._settle()

    def _touch(self) -> None:
        if self._since is not None:
            self._since = asyncio.get_running_loop().time()

    def _settle(self) -> None:
        if self._paused or self._bytes > WINDOW:
            self._open.clear()
        else:
            self._open.set()
