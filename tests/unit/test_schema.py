"""The tables of the catalog: made, upgraded from whatever they ever were, and left alone when they are newer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text

from celery_livelog import errors
from celery_livelog.attempts import Attempt
from celery_livelog.errors import SchemaError, StoreError
from celery_livelog.migrations import additions
from celery_livelog.reader import Reader
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.settings import Settings
from celery_livelog.stores import schema
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.models import Base

#: Catalogs as earlier code has made them, each with one attempt, in SQL that every database takes.
EARLIER = sorted((Path(__file__).parent / "catalogs").glob("*.sql"))
AT = "2026-01-02T03:04:05.000006+00:00"


@pytest.fixture
def engine(url: str, tmp_path: Path) -> Iterator[Engine]:
    (tmp_path / "livelog").mkdir()
    engine = create_engine(url)
    yield engine
    engine.dispose()


def load(engine: Engine, path: Path) -> None:
    with engine.begin() as connection:
        for statement in path.read_text().split(";\n"):
            if statement.strip():
                connection.execute(text(statement.replace(":", "\\:")))


def shape(engine: Engine) -> dict[str, Any]:
    """All tables of ours: columns, keys and indexes, in no order."""
    inspector = inspect(engine)
    return {
        table: (
            {
                column["name"]: (repr(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(table)
            },
            inspector.get_pk_constraint(table)["constrained_columns"],
            {index["name"]: (index["column_names"], index["unique"]) for index in inspector.get_indexes(table)},
        )
        for table in inspector.get_table_names()
        if table.startswith("livelog_")
    }


def migrate(engine: Engine) -> None:
    """Run all migrations, in a database that has nothing."""
    with schema._alone(engine) as connection:
        schema._upgrade(connection, None)


def empty(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in shape(engine):
            connection.execute(text(f"DROP TABLE {table}"))


def everything(catalog: Catalog) -> None:
    """Write and read of each table, among them what earlier code has written."""
    catalog.write([Attempt(attempt="1", task_id="t", run_id="r", started=AT)], [RunEntry(run_id="r", started=AT)])
    catalog.write([], [], [Stage(attempt="1", stage=1, task_id="t", run_id="r", started=AT)])
    assert [attempt.task_id for attempt in catalog.attempts_of_run("r")] == ["t"]
    assert [stage.stage for stage in catalog.stages_of_run("r")] == [1]
    assert [run.run_id for run in catalog.runs(9, None)] == ["r"]


def test_the_migrations_lead_to_the_models(engine: Engine) -> None:
    """A catalog that was upgraded from the first version on is the same as a new one."""
    migrate(engine)
    with engine.connect() as connection:
        options = {"compare_type": True, "include_object": lambda item, name, *_: "alembic_version" not in name}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []
    migrated = shape(engine)
    empty(engine)
    schema.make_ready(engine)
    assert shape(engine) == migrated


def test_each_version_has_its_script() -> None:
    """What the package says of its versions is what its scripts are, one after another."""
    scripts = ScriptDirectory(schema._MIGRATIONS)
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == schema.VERSIONS


@pytest.mark.parametrize("earlier", EARLIER, ids=lambda path: path.stem)
def test_an_older_catalog(url: str, engine: Engine, earlier: Path) -> None:
    """A SQLite file is upgraded by itself, another database when somebody says so; nothing that is in it is lost."""
    load(engine, earlier)
    catalog = Catalog(url)
    if engine.dialect.name != "sqlite":
        before = shape(engine)
        with pytest.raises(
            SchemaError,
            match=r"^the tables of the catalog are of version 0001; this celery-livelog needs 0002: "
            r"run `celery -A PROJECT livelog db upgrade`$",
        ):
            catalog.recent(10)
        assert shape(engine) == before
        assert schema.upgrade(engine) == "0001"
    (known,) = catalog.recent(10)
    assert (known.task_id, known.state, known.lines, known.run_id) == ("a-task", "SUCCESS", 3, "")
    everything(catalog)
    catalog.close()
    upgraded = shape(engine)
    assert schema.upgrade(engine) == "0002"
    empty(engine)
    schema.make_ready(engine)
    new = shape(engine)
    assert {table: indexes for table, (*_, indexes) in upgraded.items()} == {
        table: indexes for table, (*_, indexes) in new.items()
    }


def test_tables_that_lack_nothing_but_a_version(url: str, engine: Engine) -> None:
    """An app may have made them from our models: they are as good as our own."""
    Base.metadata.create_all(engine)
    catalog = Catalog(url)
    everything(catalog)
    catalog.close()
    assert schema.current_version(engine) == schema.VERSIONS[-1]


def test_tables_that_are_half_made(url: str, engine: Engine) -> None:
    """The process was killed between two tables."""
    load(engine, EARLIER[0])
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE livelog_attempts"))
    schema.upgrade(engine)
    catalog = Catalog(url)
    everything(catalog)
    catalog.close()


def test_a_newer_catalog(
    url: str, engine: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left alone, and a reader says what to do; what else it reads goes on."""
    monkeypatch.setattr(errors, "_last_said", {})
    schema.make_ready(engine)
    with engine.begin() as connection:
        connection.execute(schema.VERSION_TABLE.update().values(version_num="9999"))
    message = (
        "the tables of the catalog are of version 9999; "
        "this celery-livelog knows none after 0002: install the release that they are of"
    )
    catalog = Catalog(url)
    for use in (lambda: catalog.write([Attempt(attempt="1", task_id="t")]), lambda: schema.upgrade(engine)):
        with pytest.raises(SchemaError) as caught:
            use()
        assert str(caught.value) == message
    catalog.close()

    async def read() -> None:
        reader = Reader(Settings.from_conf({"livelog_database_url": url, "livelog_dir": str(tmp_path)}))
        with pytest.raises(StoreError) as caught:
            await reader.runs.get("r")
        assert str(caught.value) == message
        assert await reader.recent() == []
        await reader.close()

    asyncio.run(read())
    assert message in capfd.readouterr().err


def test_an_upgrade_that_fails(url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is as before, and the next try does it."""
    load(engine, EARLIER[0])
    before = shape(engine)

    def fail(*_: object) -> None:
        raise RuntimeError("deliberate")

    with monkeypatch.context() as patched:
        patched.setattr(additions, "add_index", fail)
        with pytest.raises(RuntimeError, match="deliberate"):
            schema.upgrade(engine)
    assert shape(engine) == before
    schema.upgrade(engine)
    catalog = Catalog(url)
    everything(catalog)
    catalog.close()


_WORKER = """
import sys
from celery_livelog.attempts import Attempt
from celery_livelog.stores.catalog import Catalog

catalog = Catalog(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
catalog.write([Attempt(attempt=sys.argv[2], task_id="t", started=sys.argv[2])])
print("alembic" in sys.modules, flush=True)
"""


@pytest.mark.parametrize("earlier", [EARLIER[0], None], ids=["older", "absent"])
def test_workers_that_come_at_once(tmp_path: Path, earlier: Path | None) -> None:
    """One of them makes or upgrades the tables, the others wait; only an upgrade needs Alembic."""
    url = f"sqlite:///{tmp_path / 'catalog.sqlite3'}"
    if earlier is not None:
        engine = create_engine(url)
        load(engine, earlier)
        engine.dispose()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, url, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    loaded = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert loaded.count("True\n") == (earlier is not None)
    catalog = Catalog(url)
    assert len(catalog.attempts("t")) == 4
    catalog.close()
