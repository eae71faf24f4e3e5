"""Records that wait to be sent live. Pure. Holds a bounded number; what had to go is counted and told in its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from celery_livelog.records import Gap, Partial, Record


class Outbox:
    """The records of one attempt that are not in its stream yet, oldest first.

    :param limit: how many may wait. More than the stream keeps is no use: it would trim them before anybody reads them.
    :param limit_bytes: how many characters they may have together.
    """

    def __init__(self, limit: int, limit_bytes: int = 4 * 1024 * 1024) -> None:
        self._waiting: deque[Record] = deque()
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, records: Sequence[Record]) -> None:
        """Let records wait; the oldest make room."""
        for record in records:
            self._waiting.append(record)
            self._bytes += len(record.text)
        self._bound()

    def take(self, count: int) -> list[Record]:
        """Take the next records to send them."""
        taken = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        self._bytes -= sum(len(record.text) for record in taken)
        return taken

    def give_back(self, records: Sequence[Record]) -> None:
        """These, taken last, could not be sent: they are next again."""
        self._waiting.extendleft(reversed(records))
        self._bytes += sum(len(record.text) for record in records)
        self._bound()

    def refuse(self, records: Sequence[Record]) -> None:
        """These, taken last, will never be sent: they are counted."""
        for record in reversed(records):
            self._lose(record, "redis")

    def _bound(self) -> None:
        while len(self._waiting) > self._limit or (self._bytes > self._limit_bytes and len(self._waiting) > 1):
            oldest = self._waiting.popleft()
            if isinstance(oldest, Gap):  # of ours or the task's own: it grows over the next record
                self._lose(self._waiting.popleft(), "overload", oldest.first)
                self._bytes -= len(oldest.text)
            else:
                self._lose(oldest, "overload")

    def _lose(self, record: Record, reason: str, first: int | None = None) -> None:
        """Put a gap in the place of `record`, from `first` on, grown together with one that follows."""
        if reason == "overload":
            self._bytes -= len(record.text)
        if isinstance(record, Partial):
            last, first = record.n - 1, first if first is not None else record.n
        else:
            last, first = (
                record.n,
                first if first is not None else record.first if isinstance(record, Gap) else record.n,
            )
        if self._waiting and isinstance(follower := self._waiting[0], Gap):
            last = follower.last
            self._bytes -= len(self._waiting.popleft().text)
        if last >= first:
            gap = Gap(
                n=last, timestamp=record.timestamp, skipped=last - first + 1, first=first, last=last, reason=reason
            )
            self._waiting.appendleft(gap)
            self._bytes += len(gap.text)
