"""Records that wait to be sent live. Pure. Holds a bounded number; what had to go is counted and told in its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from celery_livelog.records import Gap, Partial, Record

#: Bytes that a record takes beside its text, in this process.
_RECORD_BYTES = 400
#: Records that stay in an outbox that must make room for others, with the gap before them: how it ended, above all.
_KEPT = 20


class Outbox:
    """The records of one attempt that are not in its stream yet, oldest first.

    :param limit: how many may wait. More than the stream keeps is no use: it would trim them before anybody reads them.
    :param limit_bytes: how many characters they may have together, gaps aside.
    """

    def __init__(self, limit: int, limit_bytes: int = 4 * 1024 * 1024) -> None:
        self._waiting: deque[Record] = deque()
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def weight(self) -> int:
        """The memory that all that waits takes, in bytes, roughly."""
        return self._bytes + _RECORD_BYTES * len(self._waiting)

    def shrink(self) -> None:
        """Count what waits instead of keeping it, but for the newest records."""
        while len(self._waiting) > _KEPT:
            self._give_up_oldest()

    def put(self, records: Sequence[Record]) -> None:
        """Let records wait; the oldest make room."""
        self._waiting.extend(records)
        self._bytes += sum(map(_size, records))
        self._bound()

    def take(self, count: int) -> list[Record]:
        """Take the next records to send them."""
        return [self._pop() for _ in range(min(count, len(self._waiting)))]

    def give_back(self, records: Sequence[Record]) -> None:
        """These, taken last, could not be sent: they are next again."""
        self._waiting.extendleft(reversed(records))
        self._bytes += sum(map(_size, records))
        self._bound()

    def refuse(self, records: Sequence[Record]) -> None:
        """These, taken last, will never be sent: they are counted."""
        for record in reversed(records):
            self._leave_gap(_first(record), record, "redis")
        self._bound()

    def _bound(self) -> None:
        while len(self._waiting) > self._limit or (self._bytes > self._limit_bytes and len(self._waiting) > 1):
            self._give_up_oldest()

    def _give_up_oldest(self) -> None:
        oldest = self._pop()
        grows = isinstance(oldest, Gap) and bool(self._waiting)
        self._leave_gap(_first(oldest), self._pop() if grows else oldest, "overload")

    def _leave_gap(self, first: int, record: Record, reason: str) -> None:
        """Put a gap from `first` to `record` in front, grown together with one that follows."""
        last = record.n - 1 if isinstance(record, Partial) else record.n
        if self._waiting and isinstance(following := self._waiting[0], Gap):
            last = following.last
            self._waiting.popleft()
        if last >= first:
            skipped = last - first + 1
            gap = Gap(n=last, timestamp=record.timestamp, skipped=skipped, first=first, last=last, reason=reason)
            self._waiting.appendleft(gap)

    def _pop(self) -> Record:
        record = self._waiting.popleft()
        self._bytes -= _size(record)
        return record


def _first(record: Record) -> int:
    return record.first if isinstance(record, Gap) else record.n


def _size(record: Record) -> int:
    """What counts of a record: its text, but of a gap, which takes the place of many."""
    return 0 if isinstance(record, Gap) else len(record.text)
