"""The one thread that hands what arrives to the sinks, as a shipper's loop does: the event loop waits for no store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import copy

from celery_livelog.attempts import Attempt
from celery_livelog.endings import of_lapse
from celery_livelog.errors import complain
from celery_livelog.ingest.log import Log
from celery_livelog.ingest.messages import LogMessage
from celery_livelog.records import Record, utc
from celery_livelog.shipper.stores import Stores


class Hand:
    """The thread. What is asked of it is done in order, and done when the answer is there."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._work = _Work(stores)
        self._thread = ThreadPoolExecutor(1, "livelog-ingest")

    async def begin(self, attempt: Attempt) -> None:
        """An attempt has begun."""
        await self._do(lambda: self._stores.catalog(copy(attempt)))

    async def again(self, attempt: Attempt, records: list[Record]) -> None:
        """Records of an attempt which a process before this one may have given to stream or archive, or both."""
        if records:
            await self._do(lambda: self._stores.records(attempt, records, resumed=True))

    async def renew(self) -> None:
        """Say now that attempts live."""
        await self._do(self._stores.renew)

    async def feed(self, batch: list[tuple[Log, LogMessage, int]]) -> None:
        """Take messages of these logs, each with its size."""
        await self._do(lambda: self._work.feed(batch))

    async def give_up(self, log: Log) -> None:
        """Nobody writes this log any more."""
        await self._do(lambda: self._work.end(log, log.plain.end(of_lapse(), utc(time.time_ns()))))

    async def leave(self, attempt: str) -> None:
        """Somebody else writes this attempt."""
        await self._do(lambda: self._stores.leave(attempt))

    async def forget(self, attempt: str) -> None:
        """This attempt is where it belongs."""
        await self._do(lambda: self._stores.forget(attempt))

    async def anew(self) -> bool:
        """Whether the archive has lost what it had taken; then what has ended is to be given `again`."""
        lost = self._stores.lost
        if lost:
            complain(
                "the archive has lost what it had taken of logs from elsewhere: it is counted, and the rest goes there"
            )
            await self._do(self._stores.begin_anew)
        return lost

    async def tick(self, logs: Iterable[Log]) -> None:
        """Called now and then."""
        await self._do(lambda: self._work.tick(logs))

    async def close(self) -> None:
        """Write what there is."""
        await self._do(self._stores.close)
        self._thread.shutdown()

    async def _do(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Exception as error:  # noqa: BLE001 - what the sinks take they keep; the connection must not end
            complain("what arrives from elsewhere cannot be handed to the stores", error)


class _Work:
    """What the thread does with logs."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def feed(self, batch: list[tuple[Log, LogMessage, int]]) -> None:
        """Take messages of these logs, each with its size."""
        now, gathered = utc(time.time_ns()), dict[Log, list[Record]]()
        for log, message, size in batch:
            running = log.plain.attempt.running
            gathered.setdefault(log, []).extend(_records(log, message, now))
            log.taken(size)
            if running and not log.plain.attempt.running:
                self.end(log, gathered.pop(log))
        for log, records in gathered.items():
            self._write(log, records)

    def _write(self, log: Log, records: list[Record]) -> None:
        if records:
            self._stores.records(log.plain.attempt, records, resumed=False)
        if log.plain.projection.news:
            self._stores.known(log.plain.projection.take_news())

    def end(self, log: Log, records: list[Record]) -> None:
        """A log has its last records."""
        self._write(log, records)
        self._stores.catalog(copy(log.plain.attempt), silent=log.plain.silent)

    def tick(self, logs: Iterable[Log]) -> None:
        """Called now and then."""
        for log in logs:
            if log.plain.projection.moving:
                self._stores.known(log.plain.projection.progress())
        self._stores.tick()


def _records(log: Log, message: LogMessage, now: str) -> list[Record]:
    try:
        return log.plain.feed(message, now)
    except Exception as error:  # noqa: BLE001 - values of users: one message must not cost others
        complain("a message from elsewhere cannot be used", error)
        return []
