"""The logs that are open in this process, and what the sinks' threads tell of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from celery_livelog.attempts import Attempt
from celery_livelog.ingest.hand import Hand
from celery_livelog.ingest.log import Key, Log
from celery_livelog.shipper.stores import Stores


class OpenLogs:
    """The logs, by what leads to them and by their attempts; on one event loop."""

    def __init__(self, stores: Stores, hand: Hand) -> None:
        self._hand = hand
        self._loop = asyncio.get_running_loop()
        self._logs: dict[Key, Log] = {}
        self._of_attempt: dict[str, Log] = {}
        self._forgetting: set[asyncio.Task[None]] = set()
        stores.archived = lambda attempt: self._soon(self._archived, attempt)
        stores.sent = lambda attempt, n: self._soon(self._reached, attempt, n)
        stores.leases = self._leases

    def __len__(self) -> int:
        return len(self._logs)

    def __iter__(self) -> Iterator[Log]:
        return iter(list(self._logs.values()))

    @property
    def ended(self) -> list[Attempt]:
        """The attempts that are over and not archived yet."""
        attempts = [log.plain.attempt for log in self._of_attempt.values()]
        return [attempt for attempt in attempts if not attempt.running]

    def get(self, key: Key) -> Log | None:
        """The log that is open there."""
        return self._logs.get(key)

    def add(self, log: Log) -> Log:
        """Open a log."""
        self._logs[log.key] = self._of_attempt[log.plain.attempt.attempt] = log
        return log

    async def leave(self, log: Log) -> None:
        """Close one that others write."""
        self._drop(log.plain.attempt.attempt)
        await self._hand.leave(log.plain.attempt.attempt)

    def _drop(self, attempt: str) -> None:
        log = self._of_attempt.pop(attempt, None)
        if log is not None and self._logs.get(log.key) is log:
            del self._logs[log.key]

    def _leases(self) -> list[str]:
        """In a sink's thread: of the attempts that somebody writes."""
        return [log.plain.attempt.lease for log in self if log.listeners]

    def _reached(self, attempt: str, n: int) -> None:
        log = self._of_attempt.get(attempt)
        if log is not None:
            log.reached(n)

    def _archived(self, attempt: str) -> None:
        self._drop(attempt)
        forgetting = asyncio.create_task(self._hand.forget(attempt))
        self._forgetting.add(forgetting)
        forgetting.add_done_callback(self._forgetting.discard)

    def _soon(self, what: Callable[..., None], *arguments: object) -> None:
        """From a sink's thread."""
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to be told
