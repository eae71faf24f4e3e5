"""The catalog sink: rows in order and in batches, in little memory while the database is away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace
from sqlalchemy.exc import OperationalError

from celery_livelog.attempts import Attempt
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.shipper.recorder import Recorder
from celery_livelog.stores.catalog import Catalog
from tests.nodes.waiting import wait_for

AT = "2026-01-02T03:04:05.000006+00:00"


class Away(Catalog):
    """A catalog that takes nothing until it is `back`."""

    back = False
    asked = 0

    def write(self, attempts: Sequence[Attempt], runs: Sequence[RunEntry] = (), stages: Sequence[Stage] = ()) -> None:
        Away.asked += 1
        if not Away.back:
            raise OperationalError("", {}, OSError("away"))
        super().write(attempts, runs, stages)


def test_a_database_that_is_away(tmp_path: Path) -> None:
    """What waits is in the spool beyond a bound; when the database is back all rows are there, and said to be."""
    url, written = f"sqlite:///{tmp_path}/catalog.db", list[str]()
    recorder = Recorder(Away(url), tmp_path, written.append)
    wide = "x" * 2000
    for number in range(5000):
        name = f"{number:08x}"
        recorder.put(Attempt(attempt=name, task_id="a-task", started=AT, args=wide))
        recorder.put(Attempt(attempt=name, task_id="a-task", started=AT, ended=AT, state="SUCCESS"), last=True)
    wait_for(lambda: Away.asked)
    assert recorder._backlog.held < 5_000_000
    assert list(tmp_path.glob("catalog.*.waiting"))
    assert (written, recorder.idle) == ([], False)
    Away.back = True
    wait_for(lambda: recorder.idle)
    recorder.close(10)
    assert written == [f"{number:08x}" for number in range(5000)]
    catalog = Catalog(url)
    assert [row.state for row in catalog.recent(6000)] == ["SUCCESS"] * 5000
    catalog.close()
    assert list(tmp_path.glob("*.waiting")) == []


def test_runs_and_stages(tmp_path: Path) -> None:
    """What each task of a run tells of it is written once; numbers and texts of any size arrive."""
    url, secured = f"sqlite:///{tmp_path}/catalog.db", list[tuple[str, int]]()
    recorder = Recorder(Catalog(url), tmp_path, lambda attempt: None, secured.append)
    begun = RunEntry(run_id="r", named=True, started=AT, fields={"user": "7"})
    for known in (begun, begun, replace(begun, ended=AT, state="SUCCESS"), begun, RunEntry(run_id="r", started=AT)):
        recorder.put(known)
    stage = Stage(attempt="a", stage=1, task_id="t", run_id="r", result={"large": 10**30, "none": None}, n=3)
    recorder.put(stage)
    recorder.secure("a", 2)
    wait_for(lambda: secured == [("a", 2)])
    recorder.close(10)
    catalog = Catalog(url)
    assert catalog.entries("r") == [replace(begun, ended=AT, state="SUCCESS")]
    assert catalog.stages_of_run("r") == [stage]
    catalog.close()
