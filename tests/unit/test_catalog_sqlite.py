"""The catalog in a SQLite file, and what is the same for all databases but needs none of them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import OperationalError

from celery_livelog.attempts import Attempt
from celery_livelog.errors import SchemaError, SettingsError
from celery_livelog.records import utc
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.models import Base
from celery_livelog.stores.upserts import upsert


def begun(number: int = 1) -> Attempt:
    """A running attempt of a task of its own."""
    started = utc(number * 1_000_000)
    return Attempt(attempt=f"{number:016x}", task_id=f"task-{number}", args="('hunter2',)", started=started)


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


def test_throughput(sqlite_file: Path) -> None:
    """5000 attempts in batches of 200 take a fraction of the 3 s that are allowed."""
    catalog = Catalog(f"sqlite:///{sqlite_file}")
    attempts = [begun(number) for number in range(5000)]
    start = time.perf_counter()
    for first in range(0, 5000, 200):
        catalog.write(attempts[first : first + 200])
    assert time.perf_counter() - start < 3
    catalog.close()


def test_sqlite_is_tuned_and_private(tmp_path: Path) -> None:
    """Readers do not wait for writers, writers wait 5 s for each other, and the directory is the worker's own."""
    catalog = Catalog(f"sqlite:///{tmp_path / 'state' / 'livelog' / 'catalog.sqlite3'}")
    catalog.write([begun()])
    with catalog._database.ready().connect() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "busy_timeout")]
        assert [*pragmas, connection.exec_driver_sql("PRAGMA synchronous").scalar()] == ["wal", 5000, 1]
    catalog.close()
    assert (tmp_path / "state" / "livelog").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT * FROM livelog_attempts ORDER BY started DESC, attempt DESC LIMIT 9", "livelog_attempts_newest"),
        ("SELECT * FROM livelog_attempts WHERE task_id = 'a' ORDER BY started", "livelog_attempts_task"),
        ("SELECT * FROM livelog_attempts WHERE ended = '' ORDER BY started", "livelog_attempts_running"),
        ("SELECT * FROM livelog_tasks ORDER BY started DESC LIMIT 9", "livelog_tasks_newest"),
        ("SELECT * FROM livelog_tasks WHERE root_id = 'a'", "livelog_tasks_root"),
        ("SELECT * FROM livelog_tasks WHERE group_id = 'a'", "livelog_tasks_group"),
        ("SELECT * FROM livelog_tasks WHERE run_id = 'a' AND account = 'a'", "livelog_tasks_run"),
        ("SELECT * FROM livelog_attempts WHERE run_id = 'a' ORDER BY started", "livelog_attempts_run"),
        ("SELECT * FROM livelog_runs ORDER BY started DESC, run_id DESC LIMIT 9", "livelog_runs_newest"),
        (
            "SELECT * FROM livelog_runs WHERE account = 'a' AND site = 's' ORDER BY started DESC, run_id DESC",
            "livelog_runs_scope",
        ),
        ("SELECT * FROM livelog_stages WHERE run_id = 'a' ORDER BY started", "livelog_stages_run"),
        ("SELECT * FROM livelog_stages WHERE task_id = 'a' ORDER BY started", "livelog_stages_task"),
    ],
)
def test_lookups_have_an_index(sqlite_file: Path, query: str, index: str) -> None:
    """No usual question reads or sorts a whole table."""
    catalog = Catalog(f"sqlite:///{sqlite_file}")
    catalog.write([begun()])
    catalog.close()
    connection = sqlite3.connect(sqlite_file)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    connection.close()
    assert len(plan) == 1
    assert f"USING INDEX {index}" in plan[0]


def test_a_locked_file(sqlite_file: Path) -> None:
    """The caller hears of the lock, and the same batch goes in once it is free."""
    catalog = Catalog(f"sqlite:///{sqlite_file}?timeout=0.1")
    catalog.write([begun(1)])
    holder = sqlite3.connect(sqlite_file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"):
        catalog.write([begun(2)])
    assert len(catalog.recent(10)) == 1
    holder.execute("ROLLBACK")
    holder.close()
    catalog.write([begun(2)])
    assert len(catalog.recent(10)) == 2
    catalog.close()


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    """A directory that cannot be made is SQLAlchemy's error at the first use, and is made once it can be."""
    (tmp_path / "file").touch()
    catalog = Catalog(f"sqlite:///{tmp_path / 'file' / 'catalog.sqlite3'}")
    with pytest.raises(OperationalError, match="unable to open"):
        catalog.write([begun()])
    (tmp_path / "file").unlink()
    catalog.write([begun()])
    assert catalog.attempts("task-1") == [begun()]
    catalog.close()


def test_tables_of_another_shape(sqlite_file: Path) -> None:
    """Tables that we do not know are left as they are."""
    connection = sqlite3.connect(sqlite_file)
    connection.execute("CREATE TABLE livelog_attempts (attempt TEXT PRIMARY KEY)")
    catalog = Catalog(f"sqlite:///{sqlite_file}")
    with pytest.raises(SchemaError, match=r"livelog_attempts with the columns attempt; .* set livelog_database_url"):
        catalog.write([begun()])
    catalog.close()
    assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [
        ("livelog_attempts",)
    ]
    connection.close()


def test_errors_show_no_arguments_of_tasks(sqlite_file: Path) -> None:
    """What a database refuses is not shown."""
    catalog = Catalog(f"sqlite:///{sqlite_file}")
    catalog.write([begun(1)])
    connection = sqlite3.connect(sqlite_file)
    connection.execute("ALTER TABLE livelog_attempts DROP COLUMN args")
    connection.close()
    with pytest.raises(OperationalError) as caught:
        catalog.write([begun(2)])
    assert "hunter2" not in str(caught.value)
    catalog.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("catalog.sqlite3", "cannot be used"),
        ("nosuchdatabase://host/name", "cannot be used"),
        ("sqlite+nosuchdriver:///file", "cannot be used"),
        ("mssql+pyodbc://host/name", "cannot be used|is of mssql; expected sqlite, postgresql, mysql, mariadb"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, message: str) -> None:
    """A wrong URL or a missing driver is an error of the settings."""
    with pytest.raises(SettingsError, match=f"^livelog_database_url ({message})"):
        Catalog(url)


@pytest.mark.parametrize("table", ["livelog_tasks", "livelog_attempts", "livelog_runs", "livelog_stages"])
def test_mysql_decides_before_it_assigns(table: str) -> None:
    """MySQL assigns from left to right, so the column that all assignments look at comes last."""
    statement = str(upsert("mysql", Base.metadata.tables[table]).compile(dialect=mysql.dialect()))
    *others, last = statement.partition("ON DUPLICATE KEY UPDATE ")[2].split("END, ")
    assert last.startswith("version = ")
    assert all("VALUES(version)" in other for other in others if not other.startswith(("first_started", "started")))
