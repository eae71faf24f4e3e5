"""Sends what waits for Redis, many attempts in one round trip, and deals with what became of each."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy

from celery_livelog.errors import RelayRefusal, complain
from celery_livelog.records import Record
from celery_livelog.shipper.contracts import StreamStore
from celery_livelog.shipper.waiting import Waiting
from celery_livelog.stores.stream_writer import ENTRY_BYTES, Parcel, Sent

#: Records that go in one round trip: of one attempt; of all, and characters of all, which the last one may exceed.
_BATCH, _BATCH_OF_ALL, _BATCH_CHARACTERS = 1000, 10_000, 1024 * 1024
#: Seconds after which a key that was no stream is tried again.
_REFUSED_SECONDS = 5.0


class Sender:
    """Sends the records of attempts.

    :param logs: all that waits, by attempt.
    :param lock: guards their outboxes.
    :param finish: called with each that has ended and is sent.
    :param sent: see `Live`.
    """

    def __init__(
        self,
        writer: StreamStore,
        logs: Mapping[str, Waiting],
        lock: threading.Lock,
        finish: Callable[[Waiting], None],
        sent: Callable[[str, int], None],
    ) -> None:
        self._writer = writer
        self._logs = logs
        self._lock = lock
        self._finish = finish
        self._sent = sent
        self._refused: deque[tuple[float, str]] = deque()
        #: Whether Redis did not take what it was sent last.
        self.away = False
        #: Whether records are on their way.
        self.busy = False

    def send(self, logs: list[Waiting]) -> None:
        """Send all that waits of these attempts.

        :raises redis.RedisError: when Redis did not take it; what it did not take waits on.
        """
        logs.sort(key=lambda log: log.attempt.started)  # in their stream, attempts begin in the order of their numbers
        turns = deque(logs)
        self.busy = True
        try:
            while self._round_trip(turns):
                pass
        finally:
            self.busy = False

    def due(self, now: float) -> Iterator[str]:
        """The attempts whose keys were no streams and are to be tried again."""
        while self._refused and now > self._refused[0][0]:
            yield self._refused.popleft()[1]

    def _round_trip(self, logs: deque[Waiting]) -> bool:
        """Send the next records of these attempts; give whether there was anything to send."""
        taken = self._take(logs)
        if not taken:
            return False
        try:
            outcomes = self._writer.send([parcel for _, parcel in taken])
        except BaseException:
            self.away = True
            for log, parcel in taken:
                self._give_back(log, parcel.records)
            raise
        for (log, parcel), sent in zip(taken, outcomes, strict=True):
            self._settle(log, parcel, sent)
        for log, _ in taken:
            if log.ended and (log.retry_at or not log.outbox):
                self._finish(log)
        errors = [sent.error for sent in outcomes if sent.error is not None and not sent.refused]
        self.away = bool(errors)
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
            if log.ended and attempt.attempt in self._logs:
                self._finish(log)  # all of it was sent before
            return None
        records = [record for record in records if record.n > log.sent] if log.sent else records
        # As it is now: until the parcel has arrived, the shipper's loop may have ended it.
        known = copy(attempt) if log.indexed < (1 if attempt.running else 2) else None
        return Parcel(attempt.task_id, attempt.attempt, records, log.fresh, known)

    def _settle(self, log: Waiting, parcel: Parcel, sent: Sent) -> None:
        """Deal with what became of a parcel."""
        left = parcel.records[sent.records :]
        log.retry_at = 0.0
        if sent.refused:
            why = "a token covers it not" if isinstance(sent.error, RelayRefusal) else "its key in Redis is no stream"
            complain(f"the log of {parcel.task_id} is not live: {why}", sent.error)
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
        reached = parcel.records if sent.refused else parcel.records[: sent.records]
        if reached:
            self._sent(parcel.attempt, reached[-1].n)

    def _give_back(self, log: Waiting, records: Sequence[Record]) -> None:
        with self._lock:
            log.outbox.give_back(records)
