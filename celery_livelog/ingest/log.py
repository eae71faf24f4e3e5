"""A log that is open in this process, and how far it has come. No I/O."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from celery_livelog.endings import LOST
from celery_livelog.ingest.messages import LogMessage, nanoseconds
from celery_livelog.ingest.plain_log import PlainLog
from celery_livelog.records import utc

#: Messages and bytes of one log that may be on their way to the live stream: far fewer than it would begin to skip.
_MOST, _MOST_BYTES = 1000, 1024 * 1024


class Key(NamedTuple):
    """What leads to a log: who writes it, of which task, and what the writer calls the attempt."""

    writer: str
    task_id: str
    name: str


class Log:
    """A log, and who is told how far it has come."""

    def __init__(self, key: Key, plain: PlainLog) -> None:
        self.key = key
        self.plain = plain
        #: The number up to which all is in the live stream.
        self.stored = plain.n
        #: Each is called when that has changed. As long as there is one, somebody writes the log.
        self.listeners: set[Callable[[Log], None]] = set()
        self.left_at = time.monotonic()
        self._on_their_way: deque[tuple[int, int]] = deque()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no more should be taken before the live stream has some of it."""
        return len(self._on_their_way) > _MOST or self._bytes > _MOST_BYTES

    @property
    def rests(self) -> bool:
        """Whether all is sent and nobody writes it here: it may go on elsewhere meanwhile."""
        return not self.listeners and self.plain.attempt.running and self.stored >= self.plain.n

    @property
    def forsaken(self) -> float:
        """Seconds since somebody wrote it."""
        return 0.0 if self.listeners else time.monotonic() - self.left_at

    def taken(self, size: int) -> None:
        """A message of so many bytes was taken."""
        if self.plain.n > self.stored:
            self._on_their_way.append((self.plain.n, size))
            self._bytes += size

    def reached(self, n: int) -> None:
        """All up to this number is in the live stream."""
        self.stored = max(self.stored, n)
        while self._on_their_way and self._on_their_way[0][0] <= self.stored:
            self._bytes -= self._on_their_way.popleft()[1]
        for listener in list(self.listeners):
            listener(self)

    def leave(self, listener: Callable[[Log], None]) -> None:
        """Somebody writes it no more."""
        self.listeners.discard(listener)
        self.left_at = time.monotonic()

    def goes_on_with(self, message: LogMessage) -> bool:
        """Whether a message is of this attempt, and does not begin the next one.

        After its end, what is numbered was sent by one who has not heard that it is here; but a number 1 that was said
        at another time than this one's is another's. What comes after it was given up is another attempt.
        """
        attempt = self.plain.attempt
        if attempt.running or self.key.name:
            return True
        if message.seq is None or self.given_up:
            return False
        return message.seq > 1 or begun(message) == attempt.started

    @property
    def given_up(self) -> bool:
        """Whether it was ended here, and not by who writes it."""
        return bool(self.plain.attempt.ended) and self.plain.attempt.state == LOST


def begun(message: LogMessage) -> str:
    """When an attempt began whose first message this is."""
    return utc(nanoseconds(message.timestamp) if message.timestamp else time.time_ns())


def moment_after(started: str) -> str:
    """The next moment: attempts whose senders tell no more than seconds stay in their order."""
    return utc(nanoseconds(started) + 1000) if started else ""
