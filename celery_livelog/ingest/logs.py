"""The logs that arrive line by line, of all connections: opened, continued, left to others, ended when forsaken.

Rules:
- the live stream is the journal here: what is acknowledged is in it, and who comes after a kill feeds from it to the
  archive what that lacks;
- an attempt lives as long as somebody who writes it is connected, here or to another server of the same stores;
- what rested here may have gone on elsewhere: it is looked at anew.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from celery_livelog.access.tokens import Writer
from celery_livelog.attempts import Attempt
from celery_livelog.cancel import cancel
from celery_livelog.endings import LOST
from celery_livelog.errors import StoreError, complain
from celery_livelog.ingest import writers
from celery_livelog.ingest.hand import Hand
from celery_livelog.ingest.log import Key, Log, begun, moment_after
from celery_livelog.ingest.messages import LogMessage
from celery_livelog.ingest.open_logs import OpenLogs
from celery_livelog.ingest.owners import Owners, check_account
from celery_livelog.ingest.place import Place
from celery_livelog.ingest.plain_log import PlainLog
from celery_livelog.ingest.resuming import Resuming
from celery_livelog.settings import Settings
from celery_livelog.shipper.redaction import Redactions
from celery_livelog.shipper.stores import Stores

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
        stores = Stores(settings, (1, 2), self._place.directory)
        self._hand = Hand(stores)
        #: Those that are open here.
        self.open_logs = OpenLogs(stores, self._hand)
        self._opening = [asyncio.Lock() for _ in range(_LOCKS)]
        self._ticking = asyncio.create_task(self._tick())
        #: Takes messages of these logs, each with its size.
        self.feed = self._hand.feed

    async def open(self, writer: Writer, message: LogMessage, listener: Callable[[Log], None]) -> Log:
        """The log that a message is for: one that is open here, or has been elsewhere, or a new one.

        :raises NotYours: when the writer may not write it.
        :raises StoreError: when that cannot be told now.
        :raises Unavailable: when no more logs are taken.
        """
        writers.check(writer, message.task)
        if not self._live or len(self.open_logs) >= _MOST:
            raise Unavailable("too many logs are open" if self._live else "there is no Redis here to take live lines")
        key = Key(writers.identity(writer), message.task, str(message.attempt))
        async with self._opening[hash(key) % _LOCKS]:
            log = self.open_logs.get(key)
            if log is not None and log.rests and await self._resuming.last_n(log.plain.attempt) != log.stored:
                await self.open_logs.leave(log)
                log = None
            if log is None or not log.goes_on_with(message):
                log = await self._find(key, writer, message)
            alone = not log.listeners
            log.listeners.add(listener)
        if alone:
            await self._hand.renew()
        return log

    async def close(self) -> None:
        """Write what there is, and let go."""
        await cancel(self._ticking)
        await self._hand.close()
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
            log = self._new(key, own[-1])
            if not own[-1].ended:
                return await self._resume(log)
            if log.goes_on_with(message):
                return log  # only to be told that it is over
        before = self.open_logs.get(key)
        last = max((one.started for one in known), default="") if before is None else before.plain.attempt.started
        name = named or writers.own_id(writer, key.task_id, secrets.token_hex(8))
        return await self._begin(key, writer, name, max(begun(message), moment_after(last)))

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
        log = self.open_logs.add(self._new(key, attempt))
        await self._hand.begin(attempt)
        return log

    async def _resume(self, log: Log) -> Log:
        """Go on with an attempt that another process has written, or this one before it was killed."""
        attempt = log.plain.attempt
        if attempt.state == LOST:  # so it seemed
            attempt.state, attempt.exit_code, attempt.reason = "STARTED", None, ""
        records, lacking = await self._resuming.records(attempt)
        log.plain.resume(records)
        log.stored = log.plain.n
        await self._hand.again(attempt, lacking)
        return self.open_logs.add(log)

    def _new(self, key: Key, attempt: Attempt) -> Log:
        return Log(key, PlainLog(attempt, self._redactions.of((), ())))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            for log in self.open_logs:
                if log.rests and log.forsaken > _FORSAKEN_SECONDS:
                    await self._forsake(log)
            if await self._hand.anew():
                await self._give_again()
            await self._hand.tick(self.open_logs)

    async def _give_again(self) -> None:
        for attempt in self.open_logs.ended:
            try:
                await self._hand.again(attempt, await self._resuming.whole(attempt))
            except StoreError as error:
                complain(f"the log of {attempt.task_id} is not archived", error)

    async def _forsake(self, log: Log) -> None:
        """Nobody has come back to write a log here: end it, unless it goes on elsewhere."""
        attempt = log.plain.attempt
        try:
            known = await self._resuming.attempts(attempt.task_id)
        except StoreError:
            return  # the next look tells
        there = next((one for one in known if one.attempt == attempt.attempt), attempt)
        if there.ended or there.state != LOST:
            await self.open_logs.leave(log)
        elif log.rests:
            await self._hand.give_up(log)
