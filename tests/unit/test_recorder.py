"""The catalog sink: rows in order and in batches, in little memory while the database is away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from celery_livelog.attempts import Attempt
from celery_livelog.shipper.recorder import Recorder
from celery_livelog.stores.catalog import Catalog
from tests.nodes.waiting import wait_for

AT = "2026-01-02T03:04:05.000006+00:00"


class Away(Catalog):
    """A catalog that takes nothing until it is `back`."""

    back = False
    asked = 0

    def write(self, attempts: Sequence[Attempt]) -> None:
        Away.asked += 1
        if not Away.back:
            raise OperationalError("", {}, OSError("away"))
        super().write(attempts)


def test_a_database_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is in the spool beyond a bound; when the database is back all rows are there, and said to be."""
    monkeypatch.setattr("celery_livelog.shipper.recorder.Catalog", Away)
    url, written = f"sqlite:///{tmp_path}/catalog.db", list[str]()
    recorder = Recorder(url, tmp_path, written.append)
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
