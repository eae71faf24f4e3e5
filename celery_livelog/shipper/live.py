"""Takes records to the live streams: at once when Redis is idle, in batches while an answer is outstanding."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celery_livelog.attempts import Attempt
from celery_livelog.records import Record
from celery_livelog.settings import Settings
from celery_livelog.shipper.outbox import Outbox
from celery_livelog.shipper.sinks import Sink
from celery_livelog.stores.stream import ENTRY_BYTES, RENEW_SECONDS, Parcel, Sent, StreamWriter

#: Records of one attempt that go in one round trip.
_BATCH = 1000
#: Finished tasks that wait for the bound on finished streams, or seconds, whichever is first.
_BOUND_TASKS, _BOUND_SECONDS = 100, 1.0
_RENEW = "renew the lease"


@dataclass
class _Log:
    """An attempt on its way to its stream."""

    attempt: Attempt
    outbox: Outbox
    resumed: bool
    fresh: bool = True
    #: The number up to which a shipper before this one has sent the records.
    sent: int = 0
    archived: bool = False
    bytes: int = 0
    #: What the index was last told of: 0 nothing, 1 the beginning, 2 the end.
    indexed: int = 0


class Live:
    """The stream sink.

    :param lease: the name under which the shipper says that it lives.
    :param settled: called with the id of an attempt that is archived and of which nothing is to be sent any more.
    """

    def __init__(
        self,
        writer: StreamWriter,
        settings: Settings,
        lease: str,
        settled: Callable[[str], None] = lambda attempt: None,
    ) -> None:
        self._writer = writer
        self._lease = lease
        self._renew_at = 0.0
        self._settled = settled
        self._maxlen = settings.maxlen
        self._keep = None if settings.archive_shared else settings.keep_finished
        self._logs: dict[str, _Log] = {}
        self._lock = threading.Lock()  # between the shipper's loop and the sink's thread, for the outboxes
        self._finished: list[tuple[str, float, int]] = []
        self._bounded = time.monotonic()
        self._sink: Sink[str] = Sink("the live stream", self._work, hurried=True)

    def put(self, attempt: Attempt, records: Sequence[Record], *, resumed: bool) -> None:
        """Take records of an attempt."""
        with self._lock:
            log = self._logs.get(attempt.attempt)
            if log is None:
                log = self._logs[attempt.attempt] = _Log(attempt, Outbox(self._maxlen), resumed)
            waiting = bool(log.outbox)
            log.outbox.put(records)
        if not waiting:
            self._sink.put(attempt.attempt)

    def archived(self, attempt: Attempt) -> None:
        """The log is complete in the archive; where all can read that, the stream is not needed any more."""
        with self._lock:
            log = self._logs.get(attempt.attempt)
            if log is not None:
                log.archived = True  # not all is sent: it goes when that is done
                return
        self._sink.put(f"archived {attempt.attempt} {attempt.task_id}")

    @property
    def idle(self) -> bool:
        """Whether all is sent."""
        return self._sink.idle and not self._finished

    def tick(self) -> None:
        """Called now and then: the lease is renewed and finished streams are bounded when nothing is printed, too."""
        if time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + RENEW_SECONDS
            self._sink.put(_RENEW)
        if self._finished and time.monotonic() - self._bounded > _BOUND_SECONDS:
            self._sink.put("bound")

    def close(self, timeout: float) -> None:
        """See `Sink.close`."""
        if self._finished:
            self._sink.put("bound")
        self._sink.close(timeout)
        self._writer.close()

    def _work(self, queue: deque[str]) -> None:
        count = len(queue)
        names = dict.fromkeys(queue[at] for at in range(count))
        if _RENEW in names:
            self._writer.renew_lease(self._lease)
        for name in names:
            if name.startswith("archived "):
                self._let_go(*name.split(" ", 2)[1:])
        logs = [log for name in names if (log := self._logs.get(name)) is not None]
        logs.sort(key=lambda log: log.attempt.started)  # in their stream, attempts begin in the order of their numbers
        while self._send(logs):
            pass
        if "bound" in names or len(self._finished) >= _BOUND_TASKS:
            self._bound()
        for _ in range(count):
            queue.popleft()

    def _send(self, logs: list[_Log]) -> bool:
        """Send the next records of these attempts in one round trip; give whether there was anything to send."""
        taken = [(log, parcel) for log in logs if (parcel := self._next(log)) is not None]
        if not taken:
            return False
        try:
            outcomes = self._writer.send([parcel for _, parcel in taken])
        except BaseException:
            for log, parcel in taken:
                self._give_back(log, parcel.records)
            raise
        away = all(sent.error is not None for sent in outcomes)
        for (log, parcel), sent in zip(taken, outcomes, strict=True):
            self._settle(log, parcel, sent, away=away)
        if away:
            raise outcomes[0].error or RuntimeError("nothing could be sent")
        return True

    def _next(self, log: _Log) -> Parcel | None:
        attempt = log.attempt
        if log.resumed:
            log.sent, log.resumed = self._writer.last_n(attempt.task_id, attempt.attempt), False
        with self._lock:
            records = log.outbox.take(_BATCH)
            while records and records[-1].n <= log.sent:
                records = log.outbox.take(_BATCH)
        if not records:
            if log.sent and not attempt.running and attempt.attempt in self._logs:
                self._finish(log)  # all of it was sent before
            return None
        records = [record for record in records if record.n > log.sent] if log.sent else records
        known = attempt if log.indexed < (1 if attempt.running else 2) else None
        return Parcel(attempt.task_id, attempt.attempt, records, log.fresh, known)

    def _settle(self, log: _Log, parcel: Parcel, sent: Sent, *, away: bool) -> None:
        """Deal with what became of a parcel. Refused while others got through, it is lost: its key is no stream."""
        left = parcel.records[sent.records :]
        if left and sent.error is not None and not away:
            with self._lock:
                log.outbox.refuse(left)
        elif left:
            self._give_back(log, left)
        log.fresh = sent.vanished or (log.fresh and not sent.records)
        log.bytes += sum(len(record.text) + ENTRY_BYTES for record in parcel.records[: sent.records])
        if parcel.known is not None:
            log.indexed = 1 if parcel.known.running else 2
        if not log.attempt.running and not log.outbox:
            self._finish(log)

    def _give_back(self, log: _Log, records: Sequence[Record]) -> None:
        with self._lock:
            log.outbox.give_back(records)

    def _finish(self, log: _Log) -> None:
        attempt = log.attempt
        if log.indexed < 2:
            self._writer.send([Parcel(attempt.task_id, attempt.attempt, [], True, attempt)])
        with self._lock:
            archived = log.archived
            if not archived:
                self._logs.pop(attempt.attempt, None)
        if archived:
            self._let_go(attempt.attempt, attempt.task_id)
            with self._lock:  # not before: when Redis does not answer, it is tried again
                self._logs.pop(attempt.attempt, None)
        self._writer.forget(attempt.attempt)
        if self._keep is not None:
            self._finished.append((attempt.task_id, time.time(), log.bytes))

    def _let_go(self, attempt: str, task_id: str) -> None:
        if self._keep is None:
            self._writer.expire_soon(task_id)
        self._settled(attempt)

    def _bound(self) -> None:
        finished, self._bounded = list(self._finished), time.monotonic()
        if finished and self._keep is not None:
            self._writer.finish(finished, self._keep)
            del self._finished[: len(finished)]
