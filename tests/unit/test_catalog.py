"""The catalog on every database: a SQLite file, PostgreSQL, and the one that LIVELOG_TEST_DATABASE_URL names."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from celery_livelog.attempts import Attempt
from celery_livelog.records import utc
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.models import AttemptRow, Base, TaskRow, stored_id

_SECOND = 1_000_000_000

# Runs as a process of its own: writes begin and end of 200 attempts of 10 tasks, which others write to as well.
_WRITER = """
import sys
from celery_livelog.attempts import Attempt
from celery_livelog.stores.catalog import Catalog

url, writer = sys.argv[1:]
catalog = Catalog(url)
print("ready", flush=True)
sys.stdin.readline()
for first in range(0, 200, 20):
    attempts = [
        Attempt(attempt=f"{writer}{n:07x}", task_id=f"task-{n % 10}", started=f"2026-01-01T00:00:00.{n:06}+00:00")
        for n in range(first, first + 20)
    ]
    catalog.write(attempts)
    for attempt in attempts:
        attempt.state, attempt.ended = "SUCCESS", "2026-01-01T01:00:00.000000+00:00"
    catalog.write(attempts[::-1])
catalog.close()
"""


def begun(number: int = 1, task_id: str = "task", second: int | None = None) -> Attempt:
    """An attempt that runs since `second` (its `number` unless given)."""
    started = utc((number if second is None else second) * _SECOND)
    return Attempt(attempt=f"{number:016x}", task_id=task_id, name="proj.add", root_id="root", started=started)


def ended(attempt: Attempt, state: str = "SUCCESS", archive: str = "") -> Attempt:
    """The same attempt at its end."""
    return msgspec.structs.replace(attempt, state=state, ended=utc(9999 * _SECOND), exit_code=0, archive=archive)


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    catalog = Catalog(url)
    yield catalog
    catalog.close()


def tasks(url: str) -> list[TaskRow]:
    engine = create_engine(url)
    with Session(engine) as session:
        rows = list(session.scalars(select(TaskRow).order_by(TaskRow.task_id)))
        session.expunge_all()
    engine.dispose()
    return rows


def test_all_fields_come_back(catalog: Catalog) -> None:
    """Every field of an attempt is stored, none under another's name."""
    attempt = Attempt(
        attempt="3f2a90bc77d01e44",
        task_id="0b7f3c1e-8d1c-4b11-9f57-6f1d2a3b4c5d",
        name="proj.tasks.übersetzen",
        worker="celery@höst",
        pid=4_000_000,
        queue="выход",
        root_id="root",
        parent_id="parent",
        group_id="group",
        retries=3,
        redelivered=True,
        args="('日本語', '🎉')",
        started=utc(1),
        ended=utc(2 * _SECOND),
        state="FAILURE",
        exit_code=1,
        reason="ValueError('50 % \\ \"quoted\"')\nsecond line",
        lines=2**40,
        bytes=2**50,
        skipped=7,
        archive="s3://bucket/tasks/0b7f/3f2a",
    )
    catalog.write([attempt])
    assert catalog.attempts(attempt.task_id) == [attempt]
    assert catalog.recent(10) == [attempt]


def test_columns_are_the_fields_of_an_attempt() -> None:
    """A new field of `Attempt` needs a column."""
    columns = [column.name for column in Base.metadata.tables["livelog_attempts"].columns]
    assert columns == [*Attempt.__struct_fields__, "verbatim", "version"]


def test_nothing_known(catalog: Catalog) -> None:
    """An empty catalog has no attempts, and an empty batch adds none."""
    catalog.write([])
    assert catalog.recent(10) == []
    assert catalog.attempts("task") == []


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_order_of_writes_does_not_matter(catalog: Catalog, url: str, batch: int) -> None:
    """A begin after the end, an end twice, a late end that does not know the archive: what knows most stays."""
    for number, order in enumerate(itertools.permutations(range(4))):
        begin = begun(number, f"task-{number}")
        archived = ended(begin, archive="file:///archive")
        versions = [begin, begin, ended(begin), archived]
        for first in range(0, 4, batch):
            catalog.write([versions[index] for index in order[first : first + batch]])
        assert catalog.attempts(begin.task_id) == [archived], order
    assert {task.state for task in tasks(url)} == {"SUCCESS"}


def test_news_of_a_running_attempt(catalog: Catalog) -> None:
    """What knows as much as what is stored replaces it: counts of a running attempt go up."""
    catalog.write([begun()])
    later = msgspec.structs.replace(begun(), lines=5)
    catalog.write([later])
    assert catalog.attempts("task") == [later]


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_task_shows_its_latest_attempt(catalog: Catalog, url: str, batch: int) -> None:
    """Of a task that was retried: start of the first attempt, state of the last, in whatever order they come."""
    for number, order in enumerate(itertools.permutations(range(4))):
        first, second = begun(2 * number, f"task-{number}", 1), begun(2 * number + 1, f"task-{number}", 2)
        versions = [first, ended(first, "RETRY"), second, ended(second, "FAILURE")]
        for start in range(0, 4, batch):
            catalog.write([versions[index] for index in order[start : start + batch]])
        assert catalog.attempts(first.task_id) == [versions[1], versions[3]], order
    for task in tasks(url):
        assert (task.first_started, task.started) == (first.started, second.started)
        assert (task.state, task.ended, task.root_id) == ("FAILURE", versions[3].ended, "root")
        assert task.attempt == catalog.attempts(task.task_id)[-1].attempt


def test_attempts_at_once(catalog: Catalog) -> None:
    """Two attempts of a task that started in the same microsecond are both there, always in the same order."""
    one, two = begun(1, second=5), begun(2, second=5)
    catalog.write([two, one])
    assert catalog.attempts("task") == [one, two]
    assert catalog.recent(10) == [two, one]


def test_recent_pages(catalog: Catalog) -> None:
    """The newest start comes first; `before` goes on where the last page ended."""
    catalog.write([begun(number, f"task-{number}") for number in (3, 1, 5, 2, 4)])
    page = catalog.recent(2)
    assert [attempt.task_id for attempt in page] == ["task-5", "task-4"]
    page = catalog.recent(2, before=page[-1].started)
    assert [attempt.task_id for attempt in page] == ["task-3", "task-2"]
    assert [attempt.task_id for attempt in catalog.recent(2, before=page[-1].started)] == ["task-1"]


_HOSTILE = [
    "",
    "a",
    "A",
    "ä",
    "a ",
    " a",
    "a\0",
    "a\\x00",
    "a\n",
    "\0",
    "\ud800",
    "\\ud800",
    "x" * 200,
    "x" * 201,
    "x" * 10_000,
    "x" * 9_999 + "y",
    "ж" * 200,
    "🎉" * 200,
    "..",
    "%2e%s:name",
    "'; DROP TABLE livelog_tasks; --",
    stored_id("a\0"),
]


def test_hostile_task_ids(catalog: Catalog) -> None:
    """Whatever a task id is made of, it comes back as it was and is taken for no other."""
    hostile = [
        Attempt(attempt=f"{number:016x}", task_id=task_id, root_id=task_id, parent_id=task_id, group_id=task_id)
        for number, task_id in enumerate(_HOSTILE)
    ]
    catalog.write(hostile)
    catalog.write(hostile)
    for attempt in hostile:
        assert catalog.attempts(attempt.task_id) == [attempt]
    assert catalog.recent(100) == hostile[::-1]


def test_hostile_texts(catalog: Catalog) -> None:
    """Arguments and reasons of any length and content come back as they were."""
    attempt = begun()
    for field in ("name", "worker", "queue", "args", "reason", "archive"):
        setattr(attempt, field, f"{field} \0 \ud800 \\x00 {'é' * 100_000}")
    catalog.write([attempt])
    assert catalog.attempts("task") == [attempt]


def test_threads_share_a_catalog(catalog: Catalog) -> None:
    """Two threads write to the same tasks at once, a third one reads."""

    def write(thread: int) -> None:
        for number in range(20):
            attempts = [begun(1000 * thread + 10 * number + task, f"task-{task}") for task in range(10)]
            catalog.write(attempts)
            catalog.write([ended(attempt) for attempt in attempts])

    with ThreadPoolExecutor(3) as threads:
        writers = [threads.submit(write, thread) for thread in (1, 2)]
        while not all(writer.done() for writer in writers):
            assert catalog.recent(5) is not None
        for writer in writers:
            writer.result()
    attempts = catalog.recent(1000)
    assert len(attempts) == 400
    assert {attempt.state for attempt in attempts} == {"SUCCESS"}


def test_processes_share_a_database(catalog: Catalog, url: str) -> None:
    """Workers that come first at once make the tables and write to the same tasks; nothing is lost."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, url, f"{number:09x}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for number in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    attempts = catalog.recent(1000)
    assert len(attempts) == 600
    assert {attempt.state for attempt in attempts} == {"SUCCESS"}
    assert len(tasks(url)) == 10
    for task in tasks(url):
        of_task = catalog.attempts(task.task_id)
        assert (task.first_started, task.attempt) == (of_task[0].started, of_task[-1].attempt)


def test_an_app_joins_its_own_table(catalog: Catalog, url: str) -> None:
    """The models are public: an app's table may point to them, and one query covers both."""

    class AppBase(DeclarativeBase):
        pass

    class Order(AppBase):
        __tablename__ = "orders"
        number: Mapped[int] = mapped_column(primary_key=True)
        task_id: Mapped[str] = mapped_column(ForeignKey(TaskRow.task_id))

    catalog.write([begun()])
    engine = create_engine(url)
    AppBase.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Order(number=7, task_id="task"))
        session.flush()
        query = select(Order.number, AttemptRow.state).join(AttemptRow, AttemptRow.task_id == Order.task_id)
        assert session.execute(query).all() == [(7, "STARTED")]
    AppBase.metadata.drop_all(engine)
    engine.dispose()
