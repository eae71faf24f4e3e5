"""Takes the records of attempts to the archive: full segments while they run, the rest and the manifest at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.errors import RelayRefusal, complain
from celery_livelog.records import Gap, Record, encode
from celery_livelog.shipper.backlog import Backlog
from celery_livelog.shipper.contracts import ArchiveStore
from celery_livelog.shipper.sinks import Sink
from celery_livelog.stores.archive import Manifest, Segment, pack_segment

#: A segment is full at so many records, half of what the stream keeps: a late reader finds no hole between the two.
_FULL_RECORDS = 5000
_FULL_BYTES = 1024 * 1024
#: Bytes that running attempts may gather in all; beyond that, whoever has gathered something worth a segment is cut.
_GATHERED_BYTES, _WORTH_BYTES = 64 * 1024 * 1024, 64 * 1024
#: Bytes of records, and segments, that may wait as they are. The rest waits packed: the store does not keep up.
_UNPACKED_BYTES, _UNPACKED = 4 * 1024 * 1024, 100


@dataclass(slots=True)
class _Gathering:
    """The records of an attempt that make no full segment yet."""

    resumed: bool
    lines: list[bytes] = field(default_factory=list)
    bytes: int = 0
    first: int = 0
    last: int = 0


class _Job(msgspec.Struct, array_like=True):
    """A segment to write, or with `ending` the end of an attempt; `attempt` is what was known when it was cut.

    `secures`: with it, all is there that the attempt had given when it was secured under this number.
    """

    attempt: Attempt
    resumed: bool
    ending: bool
    segment: Segment | None = None
    data: bytes = b""
    # As long as it is not packed:
    lines: list[bytes] = []
    first: int = 0
    last: int = 0
    size: int = 0
    secures: int = 0

    def pack(self) -> None:
        if self.lines:
            self.segment, self.data = pack_segment(self.lines, self.first, self.last)
            self.lines = []


@dataclass(slots=True)
class _Archived:
    """What the archive has of an attempt that goes on.

    `before` is the last number that it had when a shipper before this one had put it there.
    """

    before: int = 0
    segments: list[Segment] = field(default_factory=list)


_encode_job = msgspec.msgpack.Encoder().encode
_decode_job = msgspec.msgpack.Decoder(_Job).decode


class Archiver:
    """The archive sink. However long the archive is away, it takes little memory: see `Backlog`.

    :param directory: the spool directory.
    :param archived: called, in the sink's thread, when the log of an attempt is complete there, read back and checked.
    :param secured: called there when all is there that an attempt had given when `secure` was called with this number.
    """

    def __init__(
        self,
        archive: ArchiveStore,
        maxlen: int,
        directory: Path,
        archived: Callable[[Attempt], None],
        secured: Callable[[str, int], None] = lambda attempt, number: None,
    ) -> None:
        self._archive = archive
        self._archived = archived
        self._secured = secured
        self._full_records = max(1, min(_FULL_RECORDS, maxlen // 2))
        self._gathering: dict[str, _Gathering] = {}
        self._gathered = 0
        self._backlog = Backlog(directory, "archive")
        # Two counters, each written by one thread only: who puts and the sink.
        self._unpacked_put = self._unpacked_done = 0
        #: Jobs; None stands for the next one of the backlog.
        self._sink: Sink[_Job | None] = Sink("the archive", self._work)
        self._jobs = self._sink.waiting
        self._current: _Job | None = None
        self._open: dict[str, _Archived] = {}
        #: Whether the archive has lost what it had taken: then all must come once more, from the journals.
        self.lost = False

    def put(self, attempt: Attempt, records: Sequence[Record], *, resumed: bool = False) -> None:
        """Take records of an attempt; with its last one, `attempt` says how it ended.

        :param resumed: whether a shipper before this one may have archived some of it.
        """
        log = self._gathering.setdefault(attempt.attempt, _Gathering(resumed))
        for record in records:
            line = encode(record)
            if not log.lines:
                log.first = record.first if isinstance(record, Gap) else record.n
            log.lines.append(line)
            log.bytes += len(line)
            self._gathered += len(line)
            log.last = record.n
            if self._full(log):
                self._cut(attempt, log)
        if not attempt.running:
            self._cut(attempt, log, ending=True)
            del self._gathering[attempt.attempt]

    def secure(self, attempt: Attempt, number: int) -> None:
        """Take all there that the attempt has given until now, however little it is."""
        self._cut(attempt, self._gathering.get(attempt.attempt) or _Gathering(False), secures=number)

    def leave(self, attempt: str) -> None:
        """Archive no more of an attempt than has been cut off already."""
        log = self._gathering.pop(attempt, None)
        if log is not None:
            self._gathered -= log.bytes
        self._open.pop(attempt, None)

    @property
    def idle(self) -> bool:
        """Whether all that ended is archived."""
        return self._sink.idle

    @property
    def held(self) -> int:
        """Bytes of records that wait in memory, packed or not."""
        return self._gathered + self._unpacked_put - self._unpacked_done + self._backlog.held

    def close(self, timeout: float) -> None:
        """See `Sink.close`."""
        self._sink.close(timeout)
        self._backlog.close()

    def _full(self, log: _Gathering) -> bool:
        if len(log.lines) >= self._full_records or log.bytes >= _FULL_BYTES:
            return True
        return self._gathered > _GATHERED_BYTES and log.bytes >= _WORTH_BYTES

    def _cut(self, attempt: Attempt, log: _Gathering, *, ending: bool = False, secures: int = 0) -> None:
        first, last = (log.first, log.last) if log.lines else (0, 0)
        job = _Job(copy(attempt), log.resumed, ending, None, b"", log.lines, first, last, log.bytes, secures)
        self._gathered -= log.bytes
        log.lines, log.bytes = [], 0
        waiting = self._unpacked_put - self._unpacked_done
        if len(self._jobs) < _UNPACKED and waiting + job.size <= _UNPACKED_BYTES:
            self._unpacked_put += job.size
            self._sink.put(job)
        else:
            job.pack()
            self._backlog.put(_encode_job(job))
            self._sink.put(None)

    def _work(self, queue: deque[_Job | None]) -> None:
        job = self._current or self._take(queue[0])
        self._current = job
        if job.last or job.ending:
            try:
                self._write(job)
            except RelayRefusal as error:
                self._refused(job, error)
        if job.secures:
            self._secured(job.attempt.attempt, job.secures)
        if queue[0] is None:
            self._backlog.drop()
        else:
            self._unpacked_done += job.size
        queue.popleft()
        self._current = None

    def _write(self, job: _Job) -> None:
        attempt = job.attempt
        log = self._log(job)
        if job.segment is not None:
            self._archive.put_packed(attempt.task_id, attempt.attempt, job.segment, job.data)
            log.segments.append(job.segment)
            job.segment, job.data = None, b""  # what fails from here on is tried again without it
        if job.ending:
            self._finish(job, log)
        elif log.segments[-1].last > log.before:
            self._archive.put_manifest(Manifest(attempt=attempt, segments=log.segments))

    def _refused(self, job: _Job, error: RelayRefusal) -> None:
        """It will never be taken, and others must not wait for it."""
        complain(f"the log of {job.attempt.task_id} is not archived: a token covers it not", error)
        self._open.pop(job.attempt.attempt, None)
        if job.ending:
            self._archived(job.attempt)

    def _take(self, job: _Job | None) -> _Job:
        if job is None:
            return _decode_job(self._backlog.first())
        job.pack()
        return job

    def _log(self, job: _Job) -> _Archived:
        attempt = job.attempt
        log = self._open.get(attempt.attempt)
        if log is None:
            log = _Archived()
            there = self._archive.segments(attempt.task_id, attempt.attempt) if job.resumed or job.first > 1 else []
            if there:  # it stays what readers see until there is more: it may be complete
                log.before = there[-1].last
            if job.first > 1:  # its beginning was secured by a shipper before this one
                secured = (segment for segment in there if segment.last < job.first)
                log.segments = [one for one in secured if self._archive.has(attempt.task_id, attempt.attempt, [one])]
            self._open[attempt.attempt] = log
        return log

    def _finish(self, job: _Job, log: _Archived) -> None:
        """All segments are put: make the archive of the attempt complete, unless some of it is gone meanwhile."""
        attempt = job.attempt
        if len(log.segments) > 1 and not self._archive.has(attempt.task_id, attempt.attempt, log.segments[:-1]):
            self.lost = True
            del self._open[attempt.attempt]
            return
        attempt.archive = self._archive.place(attempt.task_id, attempt.attempt)
        manifest = Manifest(attempt=attempt, segments=log.segments, complete=True)
        self._archive.put_manifest(manifest)
        if job.resumed:
            self._archive.tidy(manifest)
        del self._open[attempt.attempt]
        self._archived(attempt)
