"""The end of a run's log: its tasks' logs in one, whatever state they are in, at the cost of what is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from celery_livelog.attempts import Attempt
from celery_livelog.reader import Reader
from celery_livelog.reader.run_tail import RunTail
from celery_livelog.reader.sources import Sources
from celery_livelog.records import End, Line, Record, utc
from celery_livelog.runs import Stage
from celery_livelog.settings import Settings
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.stream import lease_key
from celery_livelog.stores.stream_reader import StreamReader
from tests.integration.stored import Shipped, shipped
from tests.nodes.valkey import Valkey

T = TypeVar("T")

SECOND = 1_000_000_000


@pytest.fixture
def settings(valkey: Valkey, tmp_path: Path) -> Settings:
    return Settings.from_conf({"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path)})


@pytest.fixture
def stores(settings: Settings) -> Iterator[Shipped]:
    with shipped(settings) as opened:
        yield opened


def ask(settings: Settings, question: Callable[[Reader], Awaitable[T]]) -> T:
    async def asked() -> T:
        reader = Reader(settings)
        try:
            return await question(reader)
        finally:
            await reader.close()

    return asyncio.run(asked())


class Task:
    """A task of the run; its lines say its name and their second."""

    def __init__(self, stores: Shipped, number: int, name: str, lease: str = "") -> None:
        self._stores = stores
        self.attempt = Attempt(attempt=f"{number:016x}", task_id=name, run_id="run", started=utc(0), lease=lease)
        self._n = 0
        self._tell()

    def print(self, *seconds: int) -> None:
        records: list[Record] = [
            Line(n=n, timestamp=utc(at * SECOND), stream="stdout", line=f"{self.attempt.task_id} {at}")
            for n, at in enumerate(seconds, self._n + 1)
        ]
        self._n += len(records)
        self.attempt.lines = self._n
        self._stores.put(self.attempt, records)

    def end(self, second: int, state: str = "SUCCESS") -> None:
        self.attempt.state, self.attempt.ended = state, utc(second * SECOND)
        self._n += 1
        end = End(n=self._n, timestamp=self.attempt.ended, state=state, exit_code=int(state != "SUCCESS"))
        self._stores.put(self.attempt, [end])
        self._tell()

    def _tell(self) -> None:
        self._stores.know(self.attempt)


def tail(settings: Settings, lines: int) -> list[str]:
    found = ask(settings, lambda reader: reader.runs.tail("run", lines))
    assert all(attempt.run_id == "run" for attempt, _ in found)
    return [record.text for _, record in found]


def test_lines_of_several_tasks_in_order_of_time(settings: Settings, stores: Shipped) -> None:
    """Archived or running, failed or silent: the last lines of all, each attempt's in its own order."""
    first, second, third, silent = (Task(stores, n, name) for n, name in enumerate(("a", "b", "c", "d"), 1))
    first.print(1, 4, 7, 10)
    second.print(2, 5, 3, 11)  # what C code prints may be told late
    third.print(3, 6, 9)
    first.end(12)
    second.end(13, "FAILURE")
    silent.end(14)
    stores.settle()
    whole = ["a 1", "b 2", "c 3", "a 4", "b 5", "b 3", "c 6", "a 7", "c 9", "a 10", "b 11", "[FAILURE]"]
    for lines in (*range(len(whole) + 2), 1000):
        assert tail(settings, lines) == whole[max(0, len(whole) - lines) :], lines


def test_each_attempt_of_a_task(settings: Settings, stores: Shipped) -> None:
    """A retry's lines come after those of the try before; each is told of its own attempt."""
    first, second = Task(stores, 1, "a"), Task(stores, 2, "a")
    first.attempt.started, second.attempt.started = utc(SECOND), utc(5 * SECOND)
    first.print(1, 2)
    first.end(3, "RETRY")
    second.print(5, 6)
    second.end(7)
    stores.settle()
    found = ask(settings, lambda reader: reader.runs.tail("run", 10))
    assert [(attempt.attempt[-1], record.text) for attempt, record in found] == [
        ("1", "a 1"),
        ("1", "a 2"),
        ("1", "[RETRY]"),
        ("2", "a 5"),
        ("2", "a 6"),
    ]


def test_what_had_ended_before_is_not_read(
    settings: Settings, stores: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred tasks one after another, the last few tell the end of the log."""
    for number in range(100):
        task = Task(stores, number, f"task-{number}")
        task.print(*range(10 * number, 10 * number + 9))
        task.end(10 * number + 9)
    stores.settle()
    read: list[str] = []
    end_of = RunTail._end_of

    async def noted(self: RunTail, attempt: Attempt) -> list[tuple[str, Attempt, Record]]:
        read.append(attempt.task_id)
        return await end_of(self, attempt)

    monkeypatch.setattr(RunTail, "_end_of", noted)
    assert tail(settings, 20)[-3:] == ["task-99 996", "task-99 997", "task-99 998"]
    assert len(read) <= 8


@pytest.mark.parametrize("ends", [False, True])
def test_a_long_log_costs_what_is_asked_for(
    settings: Settings, stores: Shipped, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """Of 30,000 lines, in the archive and the stream, neither gives more than the end."""
    task = Task(stores, 1, "a")
    for first in range(0, 30_000, 1000):
        task.print(*range(first, first + 1000))
    if ends:
        task.end(30_000)
    stores.settle()
    records = 0
    archived, stream = Sources.archived, StreamReader.after

    async def counted(self: Sources, *place: object) -> object:
        nonlocal records
        async for lines in archived(self, *place):
            records += len(lines)
            yield lines

    async def counted_entries(self: StreamReader, *place: object) -> object:
        nonlocal records
        entries = await stream(self, *place)
        records += len(entries)
        return entries

    monkeypatch.setattr(Sources, "archived", counted)
    monkeypatch.setattr(StreamReader, "after", counted_entries)
    assert tail(settings, 100) == [f"a {at}" for at in range(29_900, 30_000)]
    assert records < 3000


def test_a_worker_that_is_lost(settings: Settings, stores: Shipped, valkey: Valkey) -> None:
    """Nothing is heard of it: its task has failed, and with it the run; its stage was interrupted."""
    task = Task(stores, 1, "a", lease="of-a-worker")
    lease = lease_key(settings.key_prefix, "of-a-worker")
    valkey.client.set(lease, "")
    stage = Stage(attempt=task.attempt.attempt, stage=1, task_id="a", run_id="run", name="Build", started=utc(0))
    catalog = Catalog(settings.database_url)
    catalog.write([], [], [stage])
    catalog.close()
    stores.settle()

    async def seen(reader: Reader) -> tuple[str, int, int, str, list[str]]:
        view, (attempt,) = await reader.runs.get("run"), await reader.runs.attempts("run")
        assert view is not None
        states = [stage.state for stage in await reader.runs.stages("run")]
        return view.state, view.running, view.failed, attempt.state, states

    assert ask(settings, seen) == ("RUNNING", 1, 0, "STARTED", ["running"])
    valkey.client.delete(lease)
    assert ask(settings, seen) == ("FAILURE", 0, 1, "LOST", ["interrupted"])
