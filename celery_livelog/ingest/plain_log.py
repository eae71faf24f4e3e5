"""The log of one attempt that arrives line by line: messages in, numbered records out. Pure; every time is passed in.

The same numbering, redaction and projection as of what a shipper reads from journals.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.endings import Ending
from celery_livelog.frames import STREAMS
from celery_livelog.ingest.messages import EndMessage, GapMessage, LineMessage, LogMessage, event_of, nanoseconds
from celery_livelog.records import (
    Gap,
    Line,
    Record,
    RunEnd,
    RunStart,
    StageComplete,
    StageError,
    StageProgress,
    StageStart,
    Trace,
)
from celery_livelog.shipper.numbering import Numbering
from celery_livelog.shipper.projection import Projection
from celery_livelog.shipper.redaction import Redaction

_EVENTS = (StageStart, StageProgress, StageComplete, StageError, RunStart, RunEnd, Trace)
_NUMBERS = {name: number for number, name in enumerate(STREAMS)}


class PlainLog:
    """Numbers what is said of an attempt.

    :param attempt: is kept up here, as `Numbering` does.
    :param redaction: hides what is secret in it.
    """

    def __init__(self, attempt: Attempt, redaction: Redaction) -> None:
        self.attempt = attempt
        self._redaction = redaction
        self._numbers = Numbering(attempt, redaction)
        #: What is new of its stages.
        self.projection = Projection(attempt, None)

    @property
    def n(self) -> int:
        """The number of the last record."""
        return self._numbers.n

    @property
    def silent(self) -> bool:
        """Whether nothing was said of it."""
        return self.n == 0

    def resume(self, records: Iterable[Record]) -> None:
        """Go on behind records that are in the stores already."""
        attempt = self.attempt
        attempt.lines = attempt.bytes = attempt.skipped = 0
        for record in records:
            self._numbers.n = record.n
            if isinstance(record, Line):
                attempt.lines += not record.more
                attempt.bytes += len(record.line.encode("utf-8", "surrogatepass")) + 1
            elif isinstance(record, Gap):
                attempt.skipped += record.skipped
            elif isinstance(record, _EVENTS):
                self.projection.feed(record)
        self.projection.take_news()

    def feed(self, message: LogMessage, now: str) -> list[Record]:
        """The records of a message; none of one that is here already. Where messages are missing, a gap says so.

        :param now: the time of a message that tells none.
        """
        if not self.attempt.running or (message.seq is not None and message.seq <= self.n):
            return []
        timestamp = message.timestamp or now
        records: list[Record] = []
        if message.seq is not None and message.seq > self.n + 1:
            records.append(self._gap(self.n + 1, message.seq - 1, message.seq - 1 - self.n, timestamp, "lost"))
        return records + self._records(message, timestamp)

    def end(self, ending: Ending, timestamp: str) -> list[Record]:
        """Close the log."""
        records = self._numbers.end(ending, nanoseconds(timestamp))
        self.projection.end(self.n)
        return [msgspec.structs.replace(record, timestamp=timestamp) for record in records]

    def _records(self, message: LogMessage, timestamp: str) -> list[Record]:
        if isinstance(message, LineMessage):
            skipped = message.skipped
            return [self._skipped(skipped, timestamp)] if skipped else self._line(message, timestamp)
        if isinstance(message, EndMessage):
            return self.end(message.ending, timestamp)
        if isinstance(message, GapMessage):
            return [self._skipped(message.skipped, timestamp)]
        record = self._numbers.event(event_of(message), timestamp)
        self.projection.feed(record)
        return [record]

    def _line(self, message: LineMessage, timestamp: str) -> list[Record]:
        text = message.text
        self.attempt.bytes += len(text.encode("utf-8", "surrogatepass")) + 1
        logger = None if message.logger is None else self._redaction.text(message.logger)
        place = _NUMBERS[message.stream], 0
        records = self._numbers.lines(place, [(text, False)], timestamp, message.stage, message.level, logger)
        if message.fields:
            return [msgspec.structs.replace(records[0], fields=self._redaction.data(message.fields))]
        return records

    def _skipped(self, count: int, timestamp: str) -> Gap:
        """What the sender had to drop: one record, as it was one message."""
        return self._gap(self.n + 1, self.n + 1, count, timestamp, "overload")

    def _gap(self, first: int, last: int, skipped: int, timestamp: str, reason: str) -> Gap:
        self._numbers.n = last
        self.attempt.skipped += skipped
        return Gap(n=last, timestamp=timestamp, skipped=skipped, first=first, last=last, reason=reason)
