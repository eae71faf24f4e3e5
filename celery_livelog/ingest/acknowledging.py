"""Tells one connection how far its logs have come; holds it back while they are too far behind.

Only logs whose messages are numbered are acknowledged: who does not count may not read what it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from celery_livelog.cancel import cancel
from celery_livelog.ingest.log import Log
from celery_livelog.ingest.messages import LogMessage

#: Seconds in which acknowledgements come together.
_SECONDS = 0.02


class Acknowledging:
    """The acknowledgements of one connection.

    :param send: sends a message.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[Any]]) -> None:
        self._send = send
        self._joined: set[Log] = set()
        #: Of logs with numbered messages: the highest that came, and the last that was acknowledged.
        self._came: dict[Log, int] = {}
        self._told: dict[Log, int] = {}
        self._changed: set[Log] = set()
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._hurries = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._work())

    def hurry(self) -> None:
        """Nothing more comes that could be held back."""
        self._hurries = True
        self._moved.set()

    async def stop(self) -> None:
        """End; the logs are left."""
        if self._task is not None:
            await cancel(self._task)
        for log in self._joined | self._changed:
            log.leave(self.heard)

    def heard(self, log: Log) -> None:
        """A log has come further."""
        self._changed.add(log)
        self._wake.set()
        self._moved.set()

    async def fed(self, batch: Iterable[tuple[Log, LogMessage, int]]) -> None:
        """These messages were taken; returns when more may be."""
        logs = set[Log]()
        for log, message, _ in batch:
            logs.add(log)
            if message.seq is not None:
                self._came[log] = max(message.seq, self._came.get(log, 0))
        self._joined |= logs
        self._changed |= logs
        self._wake.set()
        while not self._hurries and any(log.is_full for log in logs):
            self._moved.clear()
            await self._moved.wait()

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_SECONDS)
            self._wake.clear()
            changed, self._changed = self._changed, set()
            for log in changed:
                await self._tell(log)
                if not log.plain.attempt.running and log.stored >= log.plain.n:
                    self._let_go(log)

    async def _tell(self, log: Log) -> None:
        came = self._came.get(log)
        if came is None or (log.given_up and log.stored >= log.plain.n):
            return
        reached = max(came, log.stored) if log.stored >= log.plain.n else log.stored
        if reached > self._told.get(log, 0):
            self._told[log] = reached
            acknowledged = {"type": "ack", "task_id": log.key.task_id, "seq": reached}
            if log.key.name:
                acknowledged["attempt"] = log.key.name
            await self._send(msgspec.json.encode(acknowledged))

    def _let_go(self, log: Log) -> None:
        """It is over, and all is where it belongs."""
        log.leave(self.heard)
        self._joined.discard(log)
        self._came.pop(log, None)
        self._told.pop(log, None)
