"""Logs as a shipper leaves them, in every state between running and archived, for what reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

from celery_livelog.attempts import Attempt
from celery_livelog.records import End, Line, Record
from celery_livelog.settings import Settings
from celery_livelog.shipper.stores import Stores
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

AT = "2026-01-02T03:04:05.000006+00:00"
TASK = "a-task"


class Shipped:
    """A shipper's stores, and what was put into them."""

    def __init__(self, settings: Settings) -> None:
        self.archived: list[str] = []
        self._stores = Stores(settings, (1, 2), Path(settings.dir) / "a-lease")
        self._stores.archived = self.archived.append

    def begin(self, number: int, task_id: str = TASK, lease: str = "", **known: str) -> Attempt:
        """An attempt of the task; a higher number starts later. `known` is what else is known of it."""
        started = f"2026-01-02T03:04:{number:02}+00:00"
        attempt = Attempt(attempt=f"{number:016x}", task_id=task_id, started=started, lease=lease, **known)
        self._stores.catalog(copy(attempt))
        return attempt

    def know(self, attempt: Attempt) -> None:
        """What is known of an attempt now goes to the catalog."""
        self._stores.catalog(copy(attempt))

    def print(self, attempt: Attempt, first: int, last: int) -> None:
        """Lines that say their own numbers."""
        attempt.lines = last
        self.put(attempt, [Line(n=n, timestamp=AT, stream="stdout", line=f"line {n}") for n in range(first, last + 1)])

    def put(self, attempt: Attempt, records: list[Record]) -> None:
        self._stores.records(attempt, records, resumed=False)

    def end(self, attempt: Attempt, n: int, state: str = "SUCCESS") -> None:
        """Its last record, and what the catalog then knows; `n` is 0 for one that printed nothing."""
        attempt.state, attempt.exit_code, attempt.ended = state, 0 if state == "SUCCESS" else 1, AT
        if n:
            self.put(attempt, [End(n=n, timestamp=AT, state=state, exit_code=attempt.exit_code)])
        self._stores.catalog(copy(attempt))

    def settle(self) -> None:
        """Wait until all is where it belongs."""
        wait_for(self._idle)

    def close(self) -> None:
        self._stores.close()

    def _idle(self) -> bool:
        self._stores.tick()
        return self._stores.idle


@contextmanager
def shipped(settings: Settings) -> Iterator[Shipped]:
    """A shipper's stores, closed at the end."""
    stores = Shipped(settings)
    try:
        yield stores
    finally:
        stores.close()


def key(task_id: str = TASK) -> str:
    return f"task:logs:{task_id}"


def trim(valkey: Valkey, keep: int, task_id: str = TASK) -> None:
    """Let only the newest entries of a stream be left, as when many came."""
    valkey.client.xtrim(key(task_id), maxlen=keep, approximate=False)
