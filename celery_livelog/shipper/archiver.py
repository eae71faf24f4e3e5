"""Takes the records of attempts to the archive: full segments while they run, the rest and the manifest at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from celery_livelog.attempts import Attempt
from celery_livelog.records import Gap, Record, encode
from celery_livelog.shipper.sinks import Sink
from celery_livelog.stores.archive import Archive, Manifest, Segment

#: A segment is full at so many records, half of what the stream keeps: a late reader finds no hole between the two.
_FULL_RECORDS = 5000
_FULL_BYTES = 1024 * 1024


@dataclass
class _Open:
    """An attempt whose records still come."""

    attempt: Attempt
    lines: list[bytes] = field(default_factory=list)
    bytes: int = 0
    first: int = 0
    last: int = 0
    segments: list[Segment] = field(default_factory=list)


@dataclass
class _Job:
    """A segment to write, or with `ending` the end of an attempt."""

    open: _Open
    lines: list[bytes]
    first: int
    last: int
    ending: bool


class Archiver:
    """The archive sink.

    :param archived: called, in the sink's thread, when the log of an attempt is complete there, read back and checked.
    """

    def __init__(self, archive: Archive, maxlen: int, archived: Callable[[Attempt], None]) -> None:
        self._archive = archive
        self._archived = archived
        self._full_records = max(1, min(_FULL_RECORDS, maxlen // 2))
        self._open: dict[str, _Open] = {}
        self._sink: Sink[_Job] = Sink("the archive", self._work)

    def put(self, attempt: Attempt, records: Sequence[Record]) -> None:
        """Take records of an attempt; with its last one, `attempt` says how it ended."""
        log = self._open.setdefault(attempt.attempt, _Open(attempt))
        for record in records:
            line = encode(record)
            if not log.lines:
                log.first = record.first if isinstance(record, Gap) else record.n
            log.lines.append(line)
            log.bytes += len(line)
            log.last = record.n
            if len(log.lines) >= self._full_records or log.bytes >= _FULL_BYTES:
                self._cut(log, ending=False)
        if not attempt.running:
            self._cut(log, ending=True)
            del self._open[attempt.attempt]

    @property
    def idle(self) -> bool:
        """Whether all that ended is archived."""
        return self._sink.idle

    def close(self, timeout: float) -> None:
        """See `Sink.close`."""
        self._sink.close(timeout)

    def _cut(self, log: _Open, *, ending: bool) -> None:
        self._sink.put(_Job(log, log.lines, log.first, log.last, ending))
        log.lines, log.bytes = [], 0

    def _work(self, queue: deque[_Job]) -> None:
        job = queue[0]
        attempt = job.open.attempt
        if job.lines:
            segment = self._archive.put_segment(attempt.task_id, attempt.attempt, job.lines, job.first, job.last)
            job.open.segments.append(segment)
            job.lines = []
        if job.ending:
            attempt.archive = self._archive.place(attempt.task_id, attempt.attempt)
        self._archive.put_manifest(Manifest(attempt=attempt, segments=job.open.segments, complete=job.ending))
        queue.popleft()
        if job.ending:
            self._archived(attempt)
