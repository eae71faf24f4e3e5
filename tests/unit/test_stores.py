"""The sinks together: when an attempt's journal is needed no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from celery_livelog.attempts import Attempt
from celery_livelog.frames import EVENT, Frame
from celery_livelog.records import End, Line
from celery_livelog.settings import Settings
from celery_livelog.shipper import stores as shipper_stores
from celery_livelog.shipper.attempt import AttemptLog
from celery_livelog.shipper.stores import Stores
from celery_livelog.stores.catalog import Catalog
from tests.nodes.waiting import wait_for

AT = "2026-01-02T03:04:05.000006+00:00"
Open = Callable[..., tuple[Stores, list[str]]]


@pytest.fixture
def open_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open stores without a Redis, and a list of the attempts whose journals they let go."""
    monkeypatch.setattr(shipper_stores, "_WEIGH_SECONDS", 0.0)
    opened: list[Stores] = []

    def start(database: str, budget: int) -> tuple[Stores, list[str]]:
        conf = {"livelog_dir": str(tmp_path), "livelog_database_url": database, "livelog_spool_max_bytes": budget}
        opened.append(Stores(Settings.from_conf(conf), (1, 2), tmp_path))
        archived: list[str] = []
        opened[-1].archived = archived.append
        return opened[-1], archived

    yield start
    for one in opened:
        one.close()


def put(stores: Stores, name: str, silent: bool) -> None:
    """An attempt from its beginning to its end."""
    attempt = Attempt(attempt=name, task_id=name, started=AT)
    stores.catalog(attempt)
    attempt = Attempt(attempt=name, task_id=name, started=AT, ended=AT, state="SUCCESS", exit_code=0)
    if not silent:
        line = Line(n=1, timestamp=AT, stream="stdout", line="a line")
        stores.records(attempt, [line, End(n=2, timestamp=AT, state="SUCCESS", exit_code=0)], resumed=False)
    stores.catalog(attempt, silent=silent)


def test_a_journal_stays_until_the_catalog_has_the_end(open_stores: Open, tmp_path: Path) -> None:
    """Whoever is told that a journal may go finds the end in the catalog, with the place of the archive."""
    url = f"sqlite:///{tmp_path}/c.db"
    stores, archived = open_stores(url, 1 << 30)
    put(stores, "loud", silent=False)
    put(stores, "silent", silent=True)
    wait_for(lambda: len(archived) == 2)
    catalog = Catalog(url)
    for name in ("loud", "silent"):
        ((state, archive),) = [(row.state, row.archive) for row in catalog.attempts(name)]
        assert (state, bool(archive)) == ("SUCCESS", name == "loud")
    catalog.close()


def test_a_catalog_that_is_away_costs_no_output(open_stores: Open, tmp_path: Path) -> None:
    """Journals wait for it as long as there is room for them, and not longer."""
    stores, archived = open_stores("sqlite:////proc/nowhere/c.db", 10_000)
    put(stores, "loud", silent=False)
    wait_for(lambda: (tmp_path / "archive/tasks/loud/loud/manifest.json").exists())
    wait_for(lambda: bool(stores._settling))
    for _ in range(20):
        stores.tick()
    assert archived == []
    (tmp_path / "x.journal").write_bytes(bytes(5001))
    end = time.monotonic() + 30
    while not archived and time.monotonic() < end:
        stores.tick()
    assert archived == ["loud"]


def test_a_part_of_a_journal_stays_until_the_catalog_has_its_stages(open_stores: Open, tmp_path: Path) -> None:
    """What is told of a run or a stage before a part is in the catalog when that part is secured."""
    url = f"sqlite:///{tmp_path}/c.db"
    stores, _ = open_stores(url, 1 << 30)
    found: list[list[str]] = []
    catalog = Catalog(url)
    stores.secured = lambda secured: found.append([stage.name for stage in catalog.stages_of_run("r")])
    attempt = Attempt(attempt="a", task_id="t", run_id="r", started=AT)
    log = AttemptLog(attempt)
    stores.catalog(attempt)
    for number in range(1, 4):
        start = {"type": "stage_start", "stage": number, "name": f"Stage {number}"}
        records = log.feed(Frame(EVENT, 0, 1, 0, number, 0, 0, msgspec.json.encode(start)))
        stores.records(attempt, records, resumed=False)
        stores.known(log.projection.take_news())
    stores.secure(attempt, 2)
    wait_for(lambda: found)
    assert found == [["Stage 1", "Stage 2", "Stage 3"]]
    catalog.close()


def test_parts_do_not_wait_for_a_catalog_that_is_away(open_stores: Open, tmp_path: Path) -> None:
    """When the spool is needed for output, what the archive has is enough."""
    stores, _ = open_stores("sqlite:////proc/nowhere/c.db", 10_000)
    secured: list[tuple[str, int]] = []
    stores.secured = secured.append
    attempt = Attempt(attempt="a", task_id="t", started=AT)
    stores.records(attempt, [Line(n=1, timestamp=AT, stream="stdout", line="a line")], resumed=False)
    stores.secure(attempt, 2)
    wait_for(lambda: bool(stores._securing))
    stores.tick()
    assert secured == []
    (tmp_path / "x.journal").write_bytes(bytes(5001))
    wait_for(lambda: (stores.tick(), bool(secured))[1])
    assert secured == [("a", 2)]
