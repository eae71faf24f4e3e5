"""A run followed while it goes on: all its tasks in one log, in order of time, from any place, by who may see it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from celery_livelog.cli import livelog
from celery_livelog.cursors import Cursor
from celery_livelog.permissions import EVERYTHING, Scope, Viewer
from celery_livelog.reader import Reader, hub, run_log, run_tasks
from celery_livelog.reader.door import reader_for
from celery_livelog.reader.run_log import RunLog
from celery_livelog.records import End, Line, utc
from celery_livelog.settings import Settings
from celery_livelog.viewer import ViewerSession
from tests.integration.reading import run
from tests.integration.stored import Shipped, shipped
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

RUN = "a-run"
#: Nanoseconds since 1970 of a time after all tasks have begun.
BEGIN = 1_767_323_100 * 1_000_000_000


def at(time: int) -> str:
    """So many tenths of a second later."""
    return utc(BEGIN + time * 100_000_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows looks often."""
    monkeypatch.setattr(hub, "_QUIET_SECONDS", 0.05)
    monkeypatch.setattr(run_tasks, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(run_tasks, "_AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(run_tasks, "_SETTLED_SECONDS", 0.1)


@pytest.fixture(scope="module")
def settings(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    valkey_server.client.flushall()
    directory = str(tmp_path_factory.mktemp("livelog"))
    return Settings.from_conf({"livelog_redis_url": valkey_server.url, "livelog_dir": directory})


@pytest.fixture(scope="module")
def stores(settings: Settings) -> Iterator[Shipped]:
    """What a shipper writes to."""
    with shipped(settings) as opened:
        yield opened


class Task:
    """One task of the run; its lines say when they were printed, in tenths of a second."""

    def __init__(self, stores: Shipped, number: int, name: str, run_id: str = RUN) -> None:
        self._stores = stores
        self.attempt = stores.begin(number, name, run_id=run_id)
        self.n = 0

    def print(self, *times: int) -> None:
        lines = [
            Line(n=self.n + place, timestamp=at(time), stream="stdout", line=str(time))
            for place, time in enumerate(times, 1)
        ]
        self.n += len(times)
        self.attempt.lines = self.n
        self._stores.put(self.attempt, [*lines])

    def end(self, time: int) -> None:
        self.n += 1
        self.attempt.state, self.attempt.exit_code, self.attempt.ended = "SUCCESS", 0, at(time)
        self._stores.put(self.attempt, [End(n=self.n, timestamp=self.attempt.ended, state="SUCCESS", exit_code=0)])
        self._stores.know(self.attempt)

    @property
    def cursors(self) -> list[str]:
        return [f"{self.attempt.attempt}:{n}" for n in range(1, self.n + 1)]


@pytest.fixture(scope="module")
def finished(stores: Shipped) -> list[Task]:
    """A run that is over: three tasks whose lines are of the same time."""
    tasks = [Task(stores, number, f"task-{number}") for number in (1, 2, 3)]
    for place, task in enumerate(tasks):
        task.print(*range(place, 60 + place, 3))
    for task in tasks:
        task.end(70)
    stores.settle()
    return tasks


async def follow(reader: Reader, run_id: str = RUN, after: str | None = None) -> list[tuple[str, str, str]]:
    """Task, cursor and text of each record that a run's log gives."""
    log = RunLog(reader, run_id, Cursor.parse(after) if after else None)
    async with aclosing(log.batches()) as batches:
        return [
            (task_id, f"{batch.attempt}:{record.n}", record.text)
            async for task_id, batch in batches
            for record in batch.records
        ]


def test_tasks_join_as_they_start(settings: Settings, stores: Shipped) -> None:
    """From before the run begins: each task's records whole and in their order, tagged, until the run is over."""

    async def test(reader: Reader) -> None:
        following = asyncio.create_task(follow(reader, "joined"))
        first = Task(stores, 11, "first", "joined")
        first.print(1, 2, 3)
        second = Task(stores, 12, "second", "joined")
        second.print(4, 5)
        first.print(6)
        first.end(7)
        third = Task(stores, 13, "third", "joined")
        second.end(8)
        third.print(*range(9, 300))
        third.end(301)
        await asyncio.to_thread(stores.settle)
        seen = await following
        for task in (first, second, third):
            mine = [cursor for task_id, cursor, _ in seen if task_id == task.attempt.task_id]
            assert mine == task.cursors

    run(settings, test)


def test_in_order_of_time(settings: Settings, finished: list[Task]) -> None:
    """What has long been printed by tasks that ran side by side."""

    async def test(reader: Reader) -> None:
        texts = [int(text) for _, _, text in await follow(reader) if text.isdigit()]
        assert texts == list(range(60))

    run(settings, test)


def test_resumed_from_everywhere(settings: Settings, finished: list[Task]) -> None:
    """Cut behind any record, and gone on by the last number of each attempt: no hole, no double."""
    expected = Counter(cursor for task in finished for cursor in task.cursors)

    async def test(reader: Reader) -> None:
        whole = await follow(reader)

        async def resumed(cut: int) -> None:
            places = dict(cursor.split(":") for _, cursor, _ in whole[:cut])
            after = ",".join(f"{attempt}:{n}" for attempt, n in places.items())
            rest = await follow(reader, after=after)
            assert Counter(cursor for _, cursor, _ in [*whole[:cut], *rest]) == expected

        await asyncio.gather(*(resumed(cut) for cut in range(0, len(whole) + 1, 3)))

    run(settings, test)


def test_a_task_that_says_nothing_more(settings: Settings, stores: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose end is known is over, though the log of one of its tasks never comes to its end."""
    monkeypatch.setattr(run_log, "_ENDED_SECONDS", 0.2)
    tried = Task(stores, 21, "tried", "silent")
    tried.print(1)
    ended = Task(stores, 22, "ended", "silent")
    ended.print(2)
    ended.end(3)
    tried.attempt.state, tried.attempt.ended = "REJECTED", at(4)  # and delivered to nobody
    stores.know(tried.attempt)
    stores.settle()

    async def test(reader: Reader) -> None:
        assert [cursor for _, cursor, _ in await follow(reader, "silent")] == [*tried.cursors, *ended.cursors]

    run(settings, test)


class Browser:
    """The other end of a session."""

    def __init__(self, reader: Reader, viewer: Viewer) -> None:
        self.said: list[dict[str, Any]] = []
        self.codes: list[int] = []
        self.session = ViewerSession(reader, self._take, lambda code, _: self.codes.append(code), viewer=viewer)
        self.session.start()

    async def _take(self, message: bytes) -> None:
        self.said.append(json.loads(message))

    @property
    def cursors(self) -> set[str]:
        messages = [said for said in self.said if said["type"] == "records"]
        return {f"{said['attempt']}:{record['n']}" for said in messages for record in said["records"]}


def test_by_a_session(settings: Settings, finished: list[Task]) -> None:
    """Each message names its task; the last one says how the run ended, then comes a normal close."""

    async def test(reader: Reader) -> None:
        browser = Browser(reader, Viewer(via="test", seen=EVERYTHING))
        browser.session.receive(json.dumps({"type": "subscribe", "run_id": RUN}))
        await asyncio.to_thread(wait_for, lambda: browser.codes)
        await browser.session.stop()
        assert browser.codes == [1000]
        assert browser.said[-1] == {"type": "run_over", "run_id": RUN, "state": "SUCCESS"}
        assert {said["task_id"] for said in browser.said if said["type"] == "records"} == {"task-1", "task-2", "task-3"}
        assert browser.cursors == {cursor for task in finished for cursor in task.cursors}

    run(settings, test)


@pytest.mark.parametrize(
    "scope", [Scope(account="another"), Scope(owner="another"), Scope(run_id="another"), Scope(task_id="task-2")]
)
def test_who_may_not_see_the_run(settings: Settings, finished: list[Task], scope: Scope) -> None:
    """Waits as for one that does not exist."""

    async def test(reader: Reader) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(follow(reader_for(reader, Viewer(via="test", seen=(scope,)))), 0.3)

    run(settings, test)


def test_who_has_a_token_for_the_run(settings: Settings, finished: list[Task]) -> None:
    """Sees all of it."""

    async def test(reader: Reader) -> None:
        seen = await follow(reader_for(reader, Viewer(via="test", seen=(Scope(run_id=RUN),))))
        assert {cursor for _, cursor, _ in seen} == {cursor for task in finished for cursor in task.cursors}

    run(settings, test)


def test_attempts_of_others_do_not_join(settings: Settings, stores: Shipped) -> None:
    """Another run's task, at the same time."""

    async def test(reader: Reader) -> None:
        following = asyncio.create_task(follow(reader, "mine"))
        mine, other = Task(stores, 31, "mine", "mine"), Task(stores, 32, "other", "another")
        for task in (mine, other):
            task.print(1, 2)
            task.end(3)
        await asyncio.to_thread(stores.settle)
        assert [cursor for _, cursor, _ in await following] == mine.cursors

    run(settings, test)


@pytest.mark.parametrize("as_json", [False, True])
def test_by_the_command(valkey_server: Valkey, settings: Settings, finished: list[Task], as_json: bool) -> None:
    """``livelog logs --run RUN -f`` prints all of it, and ends with the run."""
    conf = {"livelog_redis_url": valkey_server.url, "livelog_dir": settings.dir}
    context = SimpleNamespace(app=SimpleNamespace(conf=conf), no_color=False)
    command = ["logs", "--run", RUN, "-f", *(["--json"] if as_json else [])]
    result = CliRunner().invoke(livelog, command, obj=context, catch_exceptions=False)
    lines = result.output.splitlines()
    assert result.exit_code == 0
    if as_json:
        printed = [json.loads(line) for line in lines]
        assert Counter(record["task_id"] for record in printed) == {"task-1": 21, "task-2": 21, "task-3": 21}
    else:
        assert lines == [f"{at(time)} task[task-{time % 3 + 1}] {time}" for time in range(60)]
