"""Takes records to the live streams: at once when Redis is idle, in batches while an answer is outstanding."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from celery_livelog.attempts import Attempt
from celery_livelog.errors import complain
from celery_livelog.records import End, Record
from celery_livelog.settings import Settings
from celery_livelog.shipper.outbox import Outbox
from celery_livelog.shipper.sinks import Sink
from celery_livelog.shipper.waiting import Waiting, make_room
from celery_livelog.stores.refusals import advice
from celery_livelog.stores.stream import ENTRY_BYTES, RENEW_SECONDS, Parcel, Sent, StreamWriter

#: Records that go in one round trip: of one attempt; of all, and characters of all, which the last one may exceed.
_BATCH, _BATCH_OF_ALL, _BATCH_CHARACTERS = 1000, 10_000, 1024 * 1024
#: Records after which it is looked at how much waits.
_WEIGH_RECORDS = 5000
#: Ended attempts, none of which has a stream yet, that may wait at least.
_WAITING_ENDED = 1000
#: Finished tasks that wait for the bound on finished streams, or seconds, whichever is first.
_BOUND_TASKS, _BOUND_SECONDS = 100, 1.0
#: Seconds after which a key that was no stream is tried again.
_REFUSED_SECONDS = 5.0
_RENEW, _EXPIRE = "renew the lease", "let go what is archived"


class Live:
    """The stream sink.

    :param lease: the name under which the shipper says that it lives.
    """

    def __init__(self, writer: StreamWriter, settings: Settings, lease: str) -> None:
        self._writer = writer
        self._lease = lease
        self._renew_at = 0.0
        self._maxlen = settings.maxlen
        self._keep = None if settings.archive_shared else settings.keep_finished
        self._logs: dict[str, Waiting] = {}
        self._lock = threading.Lock()  # between the shipper's loop and the sink's thread, for the outboxes
        self._finished: list[tuple[str, float, int]] = []
        self._bounded = time.monotonic()
        self._refused: deque[tuple[float, str]] = deque()
        self._expiring: set[str] = set()
        self._unweighed = 0
        self._away = False
        self._sink: Sink[str] = Sink("the live stream", self._work, hurried=True, meanwhile=_meanwhile)

    def put(self, attempt: Attempt, records: Sequence[Record], *, resumed: bool) -> None:
        """Take records of an attempt."""
        with self._lock:
            log = self._logs.get(attempt.attempt)
            if log is None:
                log = self._logs[attempt.attempt] = Waiting(attempt, Outbox(self._maxlen), resumed)
            waiting = bool(log.outbox)
            log.outbox.put(records)
            log.ended = log.ended or isinstance(records[-1], End)
            self._unweighed += len(records)
            if self._unweighed > _WEIGH_RECORDS:
                self._unweighed = 0
                make_room(self._logs, max(_WAITING_ENDED, self._keep or 0))
        if not waiting:
            self._sink.put(attempt.attempt)

    def archived(self, attempt: Attempt) -> None:
        """The log is complete in the archive; where all can read that, the stream is not needed any more."""
        if self._keep is not None:
            return
        with self._lock:
            log = self._logs.get(attempt.attempt)
            if log is not None and self._away and not log.bytes:
                del self._logs[attempt.attempt]  # nobody has seen anything of it, and the archive has it all
            elif log is not None:
                log.archived = True  # not all is sent: it goes when that is done
                return
        self._expiring.add(attempt.task_id)
        self._sink.put(_EXPIRE)

    @property
    def idle(self) -> bool:
        """Whether all is sent. A lease that cannot be renewed is nothing to wait for."""
        return not (self._logs or self._expiring or self._finished)

    def tick(self) -> None:
        """Called now and then: for what is due although nothing more is printed."""
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + RENEW_SECONDS
            self._sink.put(_RENEW)
        if self._finished and now - self._bounded > _BOUND_SECONDS:
            self._sink.put("bound")
        if self._refused and now > self._refused[0][0]:
            self._sink.put(self._refused.popleft()[1])

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
        if _EXPIRE in names:
            for task_id in list(self._expiring):
                self._writer.expire_soon(task_id)
                self._expiring.discard(task_id)
        logs = [log for name in names if (log := self._logs.get(name)) is not None]
        logs.sort(key=lambda log: log.attempt.started)  # in their stream, attempts begin in the order of their numbers
        turns = deque(logs)
        while self._send(turns):
            pass
        if "bound" in names or len(self._finished) >= _BOUND_TASKS:
            self._bound()
        for _ in range(count):
            queue.popleft()

    def _send(self, logs: deque[Waiting]) -> bool:
        """Send the next records of these attempts in one round trip; give whether there was anything to send."""
        taken = self._take(logs)
        if not taken:
            return False
        try:
            outcomes = self._writer.send([parcel for _, parcel in taken])
        except BaseException:
            self._away = True
            for log, parcel in taken:
                self._give_back(log, parcel.records)
            raise
        for (log, parcel), sent in zip(taken, outcomes, strict=True):
            self._settle(log, parcel, sent)
        for log, _ in taken:
            if log.ended and (log.retry_at or not log.outbox):
                self._finish(log)
        errors = [sent.error for sent in outcomes if sent.error is not None and not sent.refused]
        self._away = bool(errors)
        if errors:
            raise errors[0]
        return True

    def _take(self, logs: deque[Waiting]) -> list[tuple[Waiting, Parcel]]:
        """What goes in the next round trip, each attempt in its turn."""
        taken: list[tuple[Waiting, Parcel]] = []
        records = characters = 0
        for _ in range(len(logs)):
            if records >= _BATCH_OF_ALL or characters >= _BATCH_CHARACTERS:
                break
            log = logs[0]
            logs.rotate(-1)
            parcel = self._next(log)
            if parcel is not None:
                taken.append((log, parcel))
                records += len(parcel.records)
                characters += sum(len(record.text) for record in parcel.records)
        return taken

    def _next(self, log: Waiting) -> Parcel | None:
        attempt = log.attempt
        if time.monotonic() < log.retry_at:
            return None
        if log.resumed:
            log.sent, log.resumed = self._writer.last_n(attempt.task_id, attempt.attempt), False
        with self._lock:
            records = log.outbox.take(_BATCH)
            while records and records[-1].n <= log.sent:
                records = log.outbox.take(_BATCH)
        if not records:
            if log.sent and log.ended and attempt.attempt in self._logs:
                self._finish(log)  # all of it was sent before
            return None
        records = [record for record in records if record.n > log.sent] if log.sent else records
        known = attempt if log.indexed < (1 if attempt.running else 2) else None
        return Parcel(attempt.task_id, attempt.attempt, records, log.fresh, known)

    def _settle(self, log: Waiting, parcel: Parcel, sent: Sent) -> None:
        """Deal with what became of a parcel."""
        left = parcel.records[sent.records :]
        log.retry_at = 0.0
        if sent.refused:
            complain(f"the log of {parcel.task_id} is not live: its key in Redis is no stream", sent.error)
            log.retry_at = time.monotonic() + _REFUSED_SECONDS
            self._refused.append((log.retry_at, parcel.attempt))
            with self._lock:
                log.outbox.refuse(left)
        elif left:
            self._give_back(log, left)
        log.fresh = sent.vanished or (log.fresh and not sent.records)
        log.bytes += sum(len(record.text) + ENTRY_BYTES for record in parcel.records[: sent.records])
        if parcel.known is not None and (sent.error is None or sent.refused):
            log.indexed = 1 if parcel.known.running else 2

    def _give_back(self, log: Waiting, records: Sequence[Record]) -> None:
        with self._lock:
            log.outbox.give_back(records)

    def _finish(self, log: Waiting) -> None:
        attempt = log.attempt
        if log.indexed < 2:
            (sent,) = self._writer.send([Parcel(attempt.task_id, attempt.attempt, [], True, attempt)])
            if sent.error is not None:
                raise sent.error
        if log.archived:
            self._writer.expire_soon(attempt.task_id)
        self._writer.forget(attempt.attempt)
        if self._keep is not None:
            self._finished.append((attempt.task_id, time.time(), log.bytes))
        with self._lock:
            self._logs.pop(attempt.attempt, None)

    def _bound(self) -> None:
        finished, self._bounded = list(self._finished), time.monotonic()
        if finished and self._keep is not None:
            self._writer.finish(finished, self._keep)
            del self._finished[: len(finished)]


def _meanwhile(error: BaseException) -> str:
    return (
        "tasks go on and the archive gets all that they print, but live viewers wait and may see [N messages skipped]. "
        f"What to do with Redis: {advice(error)}"
    )
