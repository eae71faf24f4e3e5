"""The logs that arrive line by line, of all connections: opened, continued, written to the stores, ended when forsaken.

Rules:
- one thread hands records to the sinks, as a shipper's loop does; the event loop never waits for a store;
- the live stream is the journal here: what is acknowledged is in it, and who comes after a kill feeds from it to the
  archive what that lacks;
- an attempt lives as long as somebody who writes it is connected.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy

from celery_livelog.attempts import Attempt
from celery_livelog.cancel import cancel
from celery_livelog.endings import LOST, of_lapse
from celery_livelog.errors import StoreError, complain
from celery_livelog.ingest import writers
from celery_livelog.ingest.log import Key, Log, begun, moment_after
from celery_livelog.ingest.messages import LogMessage
from celery_livelog.ingest.owners import Owners, check_account
from celery_livelog.ingest.place import Place
from celery_livelog.ingest.plain_log import PlainLog
from celery_livelog.ingest.resuming import Resuming
from celery_livelog.records import Record, utc
from celery_livelog.settings import Settings
from celery_livelog.shipper.redaction import Redactions
from celery_livelog.shipper.stores import Stores
from celery_livelog.tokens import Writer

#: Seconds that an attempt may be without anybody who writes it; then it ends. It seems lost to readers after a minute.
_FORSAKEN_SECONDS = 600.0
_TICK_SECONDS = 1.0
#: Logs that may be open in this process.
_MOST = 10_000
_LOCKS = 64


class Unavailable(Exception):
    """Raised when nothing can be taken here."""


class Logs:
    """All of them, on one event loop.

    :raises SpoolError: when there is no place for what waits for the stores.
    """

    def __init__(self, settings: Settings, owners: Owners) -> None:
        self._live = settings.redis_url is not None
        self._owners = owners
        self._resuming = Resuming(settings)
        self._redactions = Redactions(settings.redactor)
        self._place = Place(settings.spool_dir)
        self._logs: dict[Key, Log] = {}
        self._of_attempt: dict[str, Log] = {}
        self._loop = asyncio.get_running_loop()
        self._stores = Stores(settings, (1, 2), self._place.directory)
        self._stores.archived = lambda attempt: self._soon(self._forget, attempt)
        self._stores.sent = lambda attempt, n: self._soon(self._reached, attempt, n)
        self._stores.leases = self._leases
        self._hand = ThreadPoolExecutor(1, "livelog-ingest")
        self._opening = [asyncio.Lock() for _ in range(_LOCKS)]
        self._ticking = asyncio.create_task(self._tick())

    async def open(self, writer: Writer, message: LogMessage, listener: Callable[[Log], None]) -> Log:
        """The log that a message is for: one that is open here, or has been elsewhere, or a new one.

        :raises NotYours: when the writer may not write it.
        :raises StoreError: when that cannot be told now.
        :raises Unavailable: when no more logs are taken.
        """
        writers.check(writer, message.task)
        if not self._live or len(self._logs) >= _MOST:
            raise Unavailable("too many logs are open" if self._live else "there is no Redis here to take live lines")
        key = Key(writers.identity(writer), message.task, str(message.attempt))
        async with self._opening[hash(key) % _LOCKS]:
            log = self._logs.get(key)
            if log is not None and log.rests and await self._resuming.last_n(log.plain.attempt) != log.stored:
                await self._leave(log)
                log = None
            if log is None or not log.goes_on_with(message):
                log = await self._find(key, writer, message)
            log.listeners.add(listener)
        await self._do(self._stores.renew)
        return log

    async def feed(self, batch: list[tuple[Log, LogMessage, int]]) -> None:
        """Take messages of these logs, each with its size."""
        await self._do(lambda: self._feed(batch))

    async def close(self) -> None:
        """Write what there is, and let go."""
        await cancel(self._ticking)
        await self._do(self._stores.close)
        self._hand.shutdown()
        self._place.close()
        await self._resuming.close()

    async def _find(self, key: Key, writer: Writer, message: LogMessage) -> Log:
        await asyncio.to_thread(self._owners.check, writer, key.task_id)
        named = writers.own_id(writer, key.task_id, writers.named(key.name)) if key.name else ""
        known = await self._resuming.attempts(key.task_id)
        check_account(writer, key.task_id, known)  # the stream's index is told sooner than the catalog
        own = [attempt for attempt in known if writers.is_own(writer, key.task_id, attempt.attempt)]
        own = [attempt for attempt in own if named in ("", attempt.attempt)]
        if own:
            log = Log(key, PlainLog(own[-1], self._redactions.of((), ())))
            if not own[-1].ended:
                return await self._resume(log)
            if log.goes_on_with(message):
                return log  # only to be told that it is over
        before = self._logs.get(key)
        last = max((one.started for one in known), default="") if before is None else before.plain.attempt.started
        started = max(begun(message), moment_after(last))
        return await self._begin(key, writer, named or _new_id(writer, key.task_id), started)

    async def _begin(self, key: Key, writer: Writer, name: str, started: str) -> Log:
        attempt = Attempt(
            attempt=name,
            task_id=key.task_id,
            root_id=key.task_id,
            run_id=key.task_id,
            account=writer.account,
            worker=writer.name or "elsewhere",
            lease=name,
            started=started,
        )
        log = self._add(Log(key, PlainLog(attempt, self._redactions.of((), ()))))
        await self._do(lambda: self._stores.catalog(copy(attempt)))
        return log

    async def _resume(self, log: Log) -> Log:
        """Go on with an attempt that another process has written, or this one before it was killed."""
        attempt = log.plain.attempt
        if attempt.state == LOST:  # so it seemed
            attempt.state, attempt.exit_code, attempt.reason = "STARTED", None, ""
        records, lacking = await self._resuming.records(attempt)
        log.plain.resume(records)
        log.stored = log.plain.n
        if lacking:
            await self._do(lambda: self._stores.records(attempt, lacking, resumed=True))
        return self._add(log)

    def _add(self, log: Log) -> Log:
        self._logs[log.key] = self._of_attempt[log.plain.attempt.attempt] = log
        return log

    def _feed(self, batch: list[tuple[Log, LogMessage, int]]) -> None:
        now, gathered = utc(time.time_ns()), dict[Log, list[Record]]()
        for log, message, size in batch:
            running = log.plain.attempt.running
            gathered.setdefault(log, []).extend(_records(log, message, now))
            log.taken(size)
            if running and not log.plain.attempt.running:
                self._end(log, gathered.pop(log))
        for log, records in gathered.items():
            self._write(log, records)

    def _write(self, log: Log, records: list[Record]) -> None:
        if records:
            self._stores.records(log.plain.attempt, records, resumed=False)
        if log.plain.projection.news:
            self._stores.known(log.plain.projection.take_news())

    def _end(self, log: Log, records: list[Record]) -> None:
        self._write(log, records)
        self._stores.catalog(copy(log.plain.attempt), silent=log.plain.silent)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            for log in [log for log in self._logs.values() if log.rests and log.forsaken > _FORSAKEN_SECONDS]:
                await self._forsake(log)
            await self._do(self._look_after)

    async def _forsake(self, log: Log) -> None:
        """Nobody has come back to write a log here: end it, unless it goes on elsewhere."""
        attempt = log.plain.attempt
        try:
            known = await self._resuming.attempts(attempt.task_id)
        except StoreError:
            return  # the next look tells
        there = next((one for one in known if one.attempt == attempt.attempt), attempt)
        if there.ended or there.state != LOST:
            await self._leave(log)
        elif log.rests:
            await self._do(lambda: self._end(log, log.plain.end(of_lapse(), utc(time.time_ns()))))

    async def _leave(self, log: Log) -> None:
        """Others write it."""
        self._logs.pop(log.key, None)
        self._of_attempt.pop(log.plain.attempt.attempt, None)
        await self._do(lambda: self._stores.leave(log.plain.attempt.attempt))

    def _look_after(self) -> None:
        for log in list(self._logs.values()):
            if log.plain.projection.moving:
                self._stores.known(log.plain.projection.progress())
        self._stores.tick()

    def _leases(self) -> list[str]:
        return [log.plain.attempt.lease for log in list(self._logs.values()) if log.listeners]

    def _reached(self, attempt: str, n: int) -> None:
        log = self._of_attempt.get(attempt)
        if log is not None:
            log.reached(n)

    def _forget(self, attempt: str) -> None:
        log = self._of_attempt.pop(attempt, None)
        if log is not None and self._logs.get(log.key) is log:
            del self._logs[log.key]
        self._hand.submit(self._stores.forget, attempt)

    def _soon(self, what: Callable[..., None], *arguments: object) -> None:
        """From a sink's thread."""
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to be told

    async def _do(self, work: Callable[[], None]) -> None:
        """What the one thread is to do."""
        try:
            await self._loop.run_in_executor(self._hand, work)
        except Exception as error:  # noqa: BLE001 - what the sinks take they keep; the connection must not end
            complain("what arrives from elsewhere cannot be handed to the stores", error)


def _records(log: Log, message: LogMessage, now: str) -> list[Record]:
    try:
        return log.plain.feed(message, now)
    except Exception as error:  # noqa: BLE001 - values of users: one message must not cost others
        complain("a message from elsewhere cannot be used", error)
        return []


def _new_id(writer: Writer, task_id: str) -> str:
    return writers.own_id(writer, task_id, secrets.token_hex(8))
