"""Takes records to the live streams: at once when Redis is idle, in batches while an answer is outstanding."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from celery_livelog.attempts import Attempt
from celery_livelog.errors import RelayError
from celery_livelog.records import End, Record
from celery_livelog.settings import Settings
from celery_livelog.shipper.contracts import StreamStore
from celery_livelog.shipper.outbox import Outbox
from celery_livelog.shipper.sending import Sender
from celery_livelog.shipper.sinks import Sink
from celery_livelog.shipper.waiting import Waiting, make_room
from celery_livelog.stores.refusals import advice
from celery_livelog.stores.stream import RENEW_SECONDS
from celery_livelog.stores.stream_writer import Parcel

#: Records after which it is looked at how much waits.
_WEIGH_RECORDS = 5000
#: Ended attempts, none of which has a stream yet, that may wait at least.
_WAITING_ENDED = 1000
#: Finished tasks that wait for the bound on finished streams, or seconds, whichever is first.
_BOUND_TASKS, _BOUND_SECONDS = 100, 1.0
#: Work of other kinds than an attempt's id, which has no space.
_RENEW, _LET_GO, _BOUND = "renew the lease", "let go what is archived", "bound what has finished"


class Live:
    """The stream sink.

    :param leases: gives the names under which the shipper says that it lives; called in the sink's thread.
    :param settled: called with the id of an attempt that is archived and of which nothing is to be sent any more.
    :param sent: called with the id of an attempt and the number up to which all is sent, or counted as skipped.
    """

    def __init__(
        self,
        writer: StreamStore,
        settings: Settings,
        leases: Callable[[], Iterable[str]],
        settled: Callable[[str], None] = lambda attempt: None,
        sent: Callable[[str, int], None] = lambda attempt, n: None,
    ) -> None:
        self._writer = writer
        self._leases = leases
        self._renew_at = 0.0
        self._settled = settled
        self._maxlen = settings.maxlen
        shared = settings.archive_shared or settings.transport is not None
        self._keep = None if shared else settings.keep_finished
        self._disk = "" if shared else settings.archive_url
        self._logs: dict[str, Waiting] = {}
        self._lock = threading.Lock()  # between the shipper's loop and the sink's thread, for the outboxes
        self._sender = Sender(writer, self._logs, self._lock, self._finish, sent)
        self._archived: dict[str, str] = {}  # the tasks of attempts that are archived and were sent before
        self._finished: list[tuple[str, float, int]] = []
        self._bounded = time.monotonic()
        self._unweighed = 0
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
            self._make_room()
        if not waiting:
            self._sink.put(attempt.attempt)

    def leave(self, attempt: str) -> None:
        """Send no more of an attempt."""
        with self._lock:
            self._logs.pop(attempt, None)

    def archived(self, attempt: Attempt) -> None:
        """The log is complete in the archive; where all can read that, the stream is not needed any more."""
        with self._lock:
            log = self._logs.get(attempt.attempt)
            needless = log is not None and self._keep is None and self._sender.away and log.unseen
            if needless:
                del self._logs[attempt.attempt]  # nobody has seen anything of it, and the archive has it all
            elif log is not None:
                log.archived = True  # not all is sent: it goes when that is done
                return
        if needless:
            self._settled(attempt.attempt)
        else:
            self._archived[attempt.attempt] = attempt.task_id
            self._sink.put(_LET_GO)

    @property
    def idle(self) -> bool:
        """Whether all is sent. A lease that cannot be renewed is nothing to wait for."""
        if self._archived or self._finished or self._sender.busy:
            return False
        with self._lock:
            return not any(log.ended or log.outbox for log in self._logs.values())

    def renew(self) -> None:
        """Say now that the shipper lives."""
        self._sink.put(_RENEW)

    def tick(self) -> None:
        """Called now and then: for what is due although nothing more is printed."""
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + RENEW_SECONDS
            self.renew()
        if self._finished and now - self._bounded > _BOUND_SECONDS:
            self._sink.put(_BOUND)
        for attempt in self._sender.due(now):
            self._sink.put(attempt)

    def close(self, timeout: float) -> None:
        """See `Sink.close`."""
        if self._finished:
            self._sink.put(_BOUND)
        self._sink.close(timeout)
        self._writer.close()

    def _work(self, queue: deque[str]) -> None:
        count = len(queue)
        names = dict.fromkeys(queue[at] for at in range(count))
        if _RENEW in names:
            self._writer.renew_leases(self._leases(), self._disk)
        if _LET_GO in names:
            for attempt, task_id in list(self._archived.items()):
                self._let_go(attempt, task_id)
                del self._archived[attempt]
        self._sender.send([log for name in names if (log := self._logs.get(name)) is not None])
        if _BOUND in names or len(self._finished) >= _BOUND_TASKS:
            self._bound()
        for _ in range(count):
            queue.popleft()

    def _finish(self, log: Waiting) -> None:
        """All of an attempt is sent. When Redis does not answer, it is tried again."""
        attempt = log.attempt
        if log.indexed < 2:
            (sent,) = self._writer.send([Parcel(attempt.task_id, attempt.attempt, [], True, attempt)])
            if sent.error is not None:
                raise sent.error
            log.indexed = 2
        with self._lock:
            archived = log.archived
            if not archived:
                self._logs.pop(attempt.attempt, None)
        if archived:
            self._let_go(attempt.attempt, attempt.task_id)
            with self._lock:
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

    def _make_room(self) -> None:
        self._unweighed = 0
        with self._lock:
            dropped = make_room(self._logs, max(_WAITING_ENDED, self._keep or 0))
        for log in dropped:
            if log.archived:
                self._settled(log.attempt.attempt)


def _meanwhile(error: BaseException) -> str:
    goes_on = "tasks go on and the archive gets all that they print, but live viewers wait and may see"
    if isinstance(error, RelayError):
        return f"{goes_on} [N messages skipped]. Is the relay up, and does it know the token of this worker?"
    return f"{goes_on} [N messages skipped]. What to do with Redis: {advice(error)}"
