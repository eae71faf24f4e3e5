"""Puts what archive and stream give of a task's attempts together: each record once, holes as gaps. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from celery_livelog.records import End, Gap, Line, Partial, Record


@dataclass
class Batch:
    """Records of one attempt, in order. `number` counts the task's attempts from 1 in order of start.

    `kept` is what a window makes of it, for all whom the same batch is given to.
    """

    attempt: str
    number: int
    records: list[Record]
    kept: Any = field(default=None, compare=False, repr=False)


@dataclass
class Progress:
    """How far a reader has come in one attempt. Of an overlong line's pieces the one at `piece` is next.

    `note`: why what is missing cannot be read, if that is known.
    """

    number: int
    n: int = 0
    piece: int = 0
    end: End | None = None
    note: str = ""

    def hole(self, record: Record) -> tuple[int, int] | None:
        """The numbers, first and last, that are missing before a record."""
        first = record.first if isinstance(record, Gap) else record.n
        return (self.n + 1, first - 1) if first > self.n + 1 and not isinstance(record, Partial) else None

    def accept(self, record: Record) -> bool:
        """Whether a record is the next one; then go on behind it."""
        if isinstance(record, Partial):
            return record.n == self.n + 1
        if isinstance(record, End):
            self.end = record
        if isinstance(record, Line) and record.n == self.n and record.piece and record.piece == self.piece:
            self.piece = record.piece + 1 if record.more else 0
            return True
        if record.n <= self.n or (isinstance(record, Line) and record.piece):
            return False
        self.n = record.n
        self.piece = 1 if isinstance(record, Line) and record.more else 0
        return True


@dataclass
class Merge:
    """The attempts of one task, as far as a reader has come in each."""

    attempts: dict[str, Progress] = field(default_factory=dict)

    def of(self, attempt: str) -> Progress:
        """The progress in an attempt; one not seen before is the latest."""
        progress = self.attempts.get(attempt)
        if progress is None:
            progress = self.attempts[attempt] = Progress(len(self.attempts) + 1)
        return progress

    def accept(self, attempt: str, records: Iterable[Record]) -> Batch:
        """Those of the records that are next, with a gap where some are missing; a gap stands only for what is."""
        progress = self.of(attempt)
        accepted: list[Record] = []
        for record in records:
            hole = progress.hole(record)
            if hole is not None:
                gap = gap_of(*hole, record.timestamp, "elsewhere" if progress.note else "trim", progress.note)
                progress.accept(gap)
                accepted.append(gap)
            if isinstance(record, Gap) and record.first <= progress.n < record.last:
                record = gap_of(progress.n + 1, record.last, record.timestamp, record.reason)
            if progress.accept(record):
                accepted.append(record)
        return Batch(attempt, progress.number, accepted)

    @property
    def over(self) -> bool:
        """Whether all attempts that printed anything have ended, and the last attempt in a final state."""
        attempts = list(self.attempts.values())
        last = attempts[-1].end if attempts else None
        return last is not None and last.final and all(progress.end for progress in attempts if progress.n)


def gap_of(first: int, last: int, timestamp: str, reason: str, note: str = "") -> Gap:
    """A gap in the place of records `first` to `last`."""
    return Gap(n=last, timestamp=timestamp, skipped=last - first + 1, first=first, last=last, reason=reason, note=note)
