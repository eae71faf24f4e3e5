"""Runs as a server reads them from the catalog, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy.exc import OperationalError

from celery_livelog.attempts import Attempt
from celery_livelog.errors import StoreError
from celery_livelog.reader import Reader
from celery_livelog.reader.run_reader import RunReader
from celery_livelog.records import utc
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.settings import Settings
from celery_livelog.stores.catalog import Catalog

T = TypeVar("T")


def at(second: int) -> str:
    return utc(second * 1_000_000_000)


def named(run_id: str, second: int, account: str = "", site: str = "", **known: str) -> RunEntry:
    return RunEntry(run_id=run_id, account=account, site=site, started=at(second), named=True, **known)


def attempt(
    task_id: str, run_id: str, second: int, state: str = "STARTED", account: str = "", site: str = ""
) -> Attempt:
    """The attempt of a task that began in a second; of one that is over, it ended in the same."""
    return Attempt(
        attempt=f"{second:016x}",
        task_id=task_id,
        run_id=run_id,
        account=account,
        site=site,
        started=at(second),
        state=state,
        ended="" if state == "STARTED" else at(second),
    )


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    catalog = Catalog(url)
    yield catalog
    catalog.close()


@pytest.fixture
def ask(url: str, tmp_path: Path) -> Callable[[Callable[[RunReader], Awaitable[T]]], T]:
    def asked(question: Callable[[RunReader], Awaitable[T]]) -> T:
        async def within() -> T:
            reader = Reader(Settings.from_conf({"livelog_database_url": url, "livelog_dir": str(tmp_path)}))
            try:
                return await question(reader.runs)
            finally:
                await reader.close()

        return asyncio.run(within())

    return asked


Ask = Callable[[Callable[[RunReader], Awaitable[object]]], object]


def test_a_run_is_what_its_end_says(catalog: Catalog, ask: Ask) -> None:
    """With its end in, nothing else counts; name, fields and scope come back as they were begun."""
    begun = named("run_1", 1, "a 1", "s7", name="nightly")
    begun.fields = {"user_id": "7", "übrig": "\0"}
    over = named("run_1", 1, "a 1", "s7", name="nightly", state="FAILURE", ended=at(9), error="ValueError: \0 no")
    over.fields = begun.fields
    catalog.write([attempt("t1", "run_1", 2, "SUCCESS", "a 1", "s7")], [over])
    catalog.write([], [begun])
    view = ask(lambda runs: runs.get("run_1"))
    assert (view.state, view.ended, view.error, view.tasks) == ("FAILURE", at(9), "ValueError: \0 no", 1)
    assert (view.name, view.fields, view.account, view.site) == ("nightly", begun.fields, "a 1", "s7")
    assert view.named
    assert ask(lambda runs: runs.recent()) == [view]


@pytest.mark.parametrize(
    ("states", "state", "running", "failed"),
    [
        ([], "RUNNING", 0, 0),
        (["SUCCESS", "IGNORED"], "SUCCESS", 0, 0),
        (["SUCCESS", "STARTED"], "RUNNING", 1, 0),
        (["FAILURE", "RETRY"], "RUNNING", 1, 1),
        (["SUCCESS", "REVOKED"], "FAILURE", 0, 1),
        (["LOST", "ABORTED", "SUCCESS"], "FAILURE", 0, 2),
    ],
)
def test_a_run_without_an_end_is_what_its_tasks_are(
    catalog: Catalog, ask: Ask, states: list[str], state: str, running: int, failed: int
) -> None:
    """While a task runs or waits for its next try, the run does; then it has failed when one of them has."""
    tasks = [attempt(f"t{number}", "run_1", number, outcome) for number, outcome in enumerate(states, 2)]
    catalog.write(tasks, [named("run_1", 1)])
    view = ask(lambda runs: runs.get("run_1"))
    assert (view.state, view.tasks, view.running, view.failed) == (state, len(states), running, failed)
    assert view.ended == ("" if running or not states else tasks[-1].ended)


def test_a_retry_that_goes_well_has_not_failed(catalog: Catalog, ask: Ask) -> None:
    """Of each task the latest attempt counts."""
    catalog.write([attempt("t1", "run_1", 2, "FAILURE"), attempt("t1", "run_1", 3, "SUCCESS")], [named("run_1", 1)])
    view = ask(lambda runs: runs.get("run_1"))
    assert (view.state, view.tasks, view.failed) == ("SUCCESS", 1, 0)
    assert [known.started for known in ask(lambda runs: runs.attempts("run_1"))] == [at(2), at(3)]


def test_which_runs_are_listed(catalog: Catalog, ask: Ask) -> None:
    """Named ones, those with a stage, those with more than one task; any that a task has can be asked for."""
    catalog.write([attempt("alone", "alone", 1, "SUCCESS")])
    catalog.write([attempt("joined", "chain", 3, "SUCCESS")], [RunEntry(run_id="chain", started=at(3))])
    catalog.write([attempt("staged", "staged", 5, "SUCCESS")], [RunEntry(run_id="staged", started=at(5))])
    catalog.write([], [], [Stage(attempt=f"{5:016x}", stage=1, task_id="staged", run_id="staged", started=at(5))])
    catalog.write([], [named("named", 4)])
    assert [view.run_id for view in ask(lambda runs: runs.recent())] == ["staged", "named"]
    catalog.write([attempt("chain", "chain", 2, "SUCCESS")], [RunEntry(run_id="chain", started=at(2))])
    assert [view.run_id for view in ask(lambda runs: runs.recent())] == ["staged", "named", "chain"]
    assert [view.run_id for view in ask(lambda runs: runs.recent(1, before=at(4)))] == ["chain"]
    alone = ask(lambda runs: runs.get("alone"))
    assert (alone.state, alone.started, alone.named, alone.tasks) == ("SUCCESS", at(1), False, 1)
    assert ask(lambda runs: runs.get("unheard of")) is None


def test_scopes_do_not_see_each_other(catalog: Catalog, ask: Ask) -> None:
    """Two accounts that use one run id have a run each; what is outside of a scope does not exist."""
    for second, account, site in ((1, "a1", "s1"), (2, "a1", "s2"), (3, "a2", "s1")):
        known = attempt(f"t{second}", "nightly", second, "SUCCESS", account, site)
        stage = Stage(attempt=known.attempt, stage=1, task_id=known.task_id, run_id="nightly", started=at(second))
        stage.account, stage.site = account, site
        catalog.write([known], [named("nightly", second, account, site)], [stage])

    async def seen(runs: RunReader) -> tuple[object, ...]:
        view = await runs.get("nightly")
        attempts, stages = await runs.attempts("nightly"), await runs.stages("nightly")
        listed = [(view.account, view.site, view.tasks) for view in await runs.recent()]
        return view and (view.account, view.site, view.tasks), listed, len(attempts), len(stages)

    assert ask(lambda runs: seen(runs.within("a2"))) == (("a2", "s1", 1), [("a2", "s1", 1)], 1, 1)
    assert ask(lambda runs: seen(runs.within("a1", "s1"))) == (("a1", "s1", 1), [("a1", "s1", 1)], 1, 1)
    both = [("a1", "s2", 1), ("a1", "s1", 1)]
    assert ask(lambda runs: seen(runs.within("a1"))) == (("a1", "s2", 1), both, 2, 2)
    for nothing in (("a3",), ("a2", "s2"), ("",)):
        assert ask(lambda runs, scope=nothing: seen(runs.within(*scope))) == (None, [], 0, 0)
    assert ask(lambda runs: seen(runs.within("a1").within("a2"))) == (None, [], 0, 0)
    assert [view.account for view in ask(lambda runs: runs.recent(account="a2"))] == ["a2"]
    assert ask(lambda runs: runs.within("a1").recent(account="a2")) == []


def test_a_stage_of_an_attempt_that_is_over_was_interrupted(catalog: Catalog, ask: Ask) -> None:
    """Results, errors and counts of any size come back; a stage stays open only while its attempt runs."""
    running, over = attempt("t1", "run_1", 1), attempt("t2", "run_1", 2, "LOST")
    stages = [
        Stage(attempt=running.attempt, stage=1, task_id="t1", run_id="run_1", started=at(1), done=10**30),
        Stage(attempt=over.attempt, stage=1, task_id="t2", run_id="run_1", started=at(2), state="complete", n=4),
        Stage(attempt=over.attempt, stage=2, task_id="t2", run_id="run_1", started=at(3)),
    ]
    stages[1].ended, stages[1].result, stages[1].elapsed = at(3), {"credits": 1.5, "\0": ["\ud800", None]}, 0.25
    catalog.write([running, over], [], stages)
    found = ask(lambda runs: runs.stages("run_1"))
    assert [(stage.state, stage.ended) for stage in found] == [
        ("running", ""),
        ("complete", at(3)),
        ("interrupted", at(2)),
    ]
    assert found[0].done == 2**63 - 1
    assert found[1] == stages[1]


def test_a_catalog_that_cannot_be_read(tmp_path: Path) -> None:
    """Says so: the runs are nowhere else."""
    (tmp_path / "file").touch()
    url = f"sqlite:///{tmp_path / 'file' / 'catalog.sqlite3'}"

    async def within() -> None:
        reader = Reader(Settings.from_conf({"livelog_database_url": url, "livelog_dir": str(tmp_path)}))
        with pytest.raises(StoreError, match=r"^the catalog cannot be read: unable to open database file$") as caught:
            await reader.runs.recent()
        assert isinstance(caught.value.__cause__, OperationalError)
        await reader.close()

    asyncio.run(within())
