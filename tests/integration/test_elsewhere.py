"""Archives on another host's disk: read through the worker there, or a notice where they lie. Never an empty log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from celery.app.control import Control

from celery_livelog.cursors import Cursor
from celery_livelog.reader import Reader, elsewhere
from celery_livelog.records import End, Gap, Line, Record
from celery_livelog.serving import COMMAND, MOST_BYTES
from celery_livelog.settings import Settings
from tests.nodes.logs import archived
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

T = TypeVar("T")
_LINES = 30_000


class Far:
    """A worker with files of its own, and a reader that has only Redis and the broker in common with it."""

    def __init__(self, project: Project, worker: Worker, client: Any) -> None:
        self.project = project
        self.worker = worker
        self._client = client
        self.settings = Settings.from_conf({**project.conf, "livelog_dir": str(project.directory / "elsewhere")})

    def log(self, task: str, *args: Any) -> str:
        """Run a task, and let its stream go when it is archived; give the id of the task."""
        task_id = str(self.project.run(task, *args).id)
        archived(self.project, task_id)
        self._client.delete(f"task:logs:{task_id}")
        return task_id

    def ask(self, question: Callable[[Reader], Awaitable[T]], *, with_app: bool = True) -> T:
        async def asked() -> T:
            reader = Reader(self.settings, self.project.app if with_app else None)
            try:
                return await asyncio.wait_for(question(reader), 30)
            finally:
                await reader.close()

        return asyncio.run(asked())

    def read(self, task_id: str, *, with_app: bool = True, **options: Any) -> list[Record]:
        (found,) = self.read_in_turn(task_id, options, with_app=with_app)
        return found

    def read_in_turn(self, task_id: str, *readings: dict[str, Any], with_app: bool = True) -> list[list[Record]]:
        """What one reader gives for each of these options."""

        async def collected(reader: Reader) -> list[list[Record]]:
            found: list[list[Record]] = []
            for options in readings:
                found.append([])
                async for batch in reader.log(task_id, **options):
                    found[-1] += batch.records
            return found

        return self.ask(collected, with_app=with_app)

    def command(self, **arguments: Any) -> dict[str, Any]:
        """What the worker says to a question as anybody may put it who can reach the broker."""
        control = Control(self.project.app)
        (reply,) = control.broadcast(COMMAND, arguments, destination=[self.worker.hostname], reply=True, timeout=5)
        (answer,) = reply.values()
        return dict(answer)


@pytest.fixture(scope="module")
def far(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    # A database of its own: emptying that of other tests would cut the worker off from remote control.
    project = Project(tmp_path_factory.mktemp("far") / "project", f"{valkey_server.url[:-2]}/7")
    worker = Worker(project, concurrency=1)
    with project.app.connection() as connection:
        try:
            worker.start()
            wait_for(
                lambda: project.app.control.ping(timeout=0.2), what="remote control"
            )  # it listens after it is ready
            yield Far(project, worker, connection.default_channel.client)
        finally:
            worker.end()
            project.close()


@pytest.fixture(scope="module")
def task_id(far: Far) -> str:
    """A task whose log takes several segments, each of several frames."""
    return far.log("number_lines", _LINES)


def printed(records: list[Record]) -> list[str]:
    return [record.line for record in records if isinstance(record, Line)]


def test_the_whole_log_is_read_through_the_worker(far: Far, task_id: str) -> None:
    found = far.read(task_id, follow=True)
    assert printed(found) == [str(number) for number in range(1, _LINES + 1)]
    assert isinstance(found[-1], End)
    assert [record.n for record in found] == [*range(1, _LINES + 2)]


def test_the_end_of_a_log_and_what_is_behind_a_cursor(far: Far, task_id: str) -> None:
    assert printed(far.read(task_id, tail=3)) == [str(_LINES - 2), str(_LINES - 1), str(_LINES)]
    (attempt,) = far.ask(lambda reader: reader.attempts(task_id))
    behind = far.read(task_id, after=Cursor(attempt.attempt, 20_000))
    assert printed(behind) == [str(number) for number in range(20_001, _LINES + 1)]
    assert far.read(task_id, after=Cursor(attempt.attempt, _LINES + 1), follow=True) == []


def test_who_follows_a_retried_task_gets_its_attempts_in_order(far: Far) -> None:
    retried = far.log("retry_once")
    first, second = far.ask(lambda reader: reader.attempts(retried))
    ends = [record for record in far.read(retried, follow=True) if isinstance(record, End)]
    assert [end.state for end in ends] == ["RETRY", "SUCCESS"]
    behind_first = far.read(retried, after=Cursor(second.attempt, 0), follow=True)
    assert [record.state for record in behind_first if isinstance(record, End)] == ["SUCCESS"]
    assert first.state == "RETRY"


@pytest.mark.parametrize(
    "arguments",
    [
        {"task_id": "../../../../etc", "attempt": "a", "name": "manifest.json"},
        {"attempt": ".."},
        {"attempt": "../../../.."},
        {"attempt": ""},
        {"name": "../manifest.json"},
        {"name": "/etc/passwd"},
        {"name": "manifest.json\x00"},
        {"name": "1.jsonl.zst/.."},
        {"name": None},
        {"task_id": ["a"]},
        {"task_id": "x" * 100_000},
        {"start": -1},
        {"start": 1 << 80},
        {"end": "all"},
        {"end": True},
        {"further": "argument", "task_id": 7},
    ],
)
def test_a_question_that_cannot_be_answered(far: Far, task_id: str, arguments: dict[str, Any]) -> None:
    (attempt,) = far.ask(lambda reader: reader.attempts(task_id))
    sound = {"task_id": task_id, "attempt": attempt.attempt, "name": "manifest.json", "start": 0, "end": 100}
    answer = far.command(**{**sound, **arguments})
    assert "data" not in answer
    assert answer.keys() <= {"error", "absent"}


def test_an_answer_is_small_whatever_is_asked_for(far: Far, task_id: str) -> None:
    (attempt,) = far.ask(lambda reader: reader.attempts(task_id))
    question = {"task_id": task_id, "attempt": attempt.attempt, "name": "manifest.json"}
    answer = far.command(**question, start=0, end=1 << 60)
    assert 0 < len(answer["data"]) <= MOST_BYTES * 4 / 3 + 4
    assert far.command(**question, start=1 << 60, end=1 << 61)["data"] == ""
    assert far.command(**question, start=100, end=10)["data"] == ""


def test_without_an_app_the_answer_says_where_the_log_lies(far: Far, task_id: str) -> None:
    gap, end = far.read(task_id, follow=True, with_app=False)
    assert isinstance(gap, Gap)
    assert isinstance(end, End)
    assert (gap.skipped, gap.reason, end.state) == (_LINES, "elsewhere", "SUCCESS")
    place = f"{far.project.settings.archive_url}/tasks/{task_id}/"
    assert f"the log of {task_id} lies in {place}" in gap.text
    assert "set livelog_archive_url" in gap.text


def test_a_worker_that_is_gone(far: Far, task_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is taken by any other on the same disk; with none, readers are told what to do."""
    monkeypatch.setattr(elsewhere, "_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(elsewhere, "_NEIGHBOUR_SECONDS", 0.5)
    far.worker.kill()
    for found in far.read_in_turn(task_id, {}, {"follow": True}, {"tail": 5}):
        assert [type(record) for record in found] == [Gap, End]
        assert "does not answer; set livelog_archive_url" in found[0].text
        assert far.project.settings.archive_url in found[0].text
    neighbour = Worker(far.project, pool="solo", name="another")
    try:
        neighbour.start()
        wait_for(lambda: far.project.app.control.ping(destination=[neighbour.hostname], timeout=1))
        assert len(printed(far.read(task_id))) == _LINES
    finally:
        neighbour.kill()
        neighbour.end()
