"""The version of the catalog's tables, and how they come to be of the version that this package needs.

Rules:
- where there are no tables, they are made;
- where they are older, they are upgraded: at once in a SQLite file, which is this host's; elsewhere only on demand,
  since others may use them whose version cannot;
- where they are newer, nothing is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Column, Connection, Engine, MetaData, PrimaryKeyConstraint, String, Table, func, inspect, select

from celery_livelog.errors import SchemaError
from celery_livelog.stores.models import Base

#: All versions there were, the newest last; each is a script of `celery_livelog.migrations`.
VERSIONS = ("0001", "0002")
#: Where Alembic notes the version.
VERSION_TABLE = Table(
    "livelog_alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="livelog_alembic_version_pkc"),
)

_MIGRATIONS = Path(__file__).parents[1] / "migrations"
_UPGRADE = "run `celery -A PROJECT livelog db upgrade`"
#: Columns that our first tables had in common: others of the same name are not ours.
_FIRST_TABLES = ("livelog_tasks", "livelog_attempts")
_FIRST_COLUMNS = frozenset({"task_id", "attempt", "started", "ended", "state", "version"})
#: Any number that no other program takes for a lock of the same database.
_LOCK = 0x6C6976656C6F67
_LOCK_SECONDS = 60


def make_ready(engine: Engine) -> None:
    """Have the tables be of the version that this package needs.

    :raises SchemaError: when they are not, and it is not ours to change that.
    """
    with engine.connect() as connection:  # nearly always all there is to do: two questions
        if noted_version(connection) == VERSIONS[-1]:
            return
    with _alone(engine) as connection:
        version = noted_version(connection)
        if version == VERSIONS[-1]:
            return
        if version not in (None, *VERSIONS):
            raise _newer(version)
        if not (version or _tables(connection)) or _complete(connection):
            _create(connection)
        elif engine.dialect.name == "sqlite":
            _upgrade(connection, version)
        else:
            raise SchemaError(
                f"the tables of the catalog are of version {version or VERSIONS[0]}; "
                f"this celery-livelog needs {VERSIONS[-1]}: {_UPGRADE}"
            )


def upgrade(engine: Engine) -> str | None:
    """Bring the tables to the version that this package needs; give the one that they were of, None of absent ones.

    :raises SchemaError: when they are newer, or not ours.
    """
    before = current_version(engine)
    with _alone(engine) as connection:
        version = noted_version(connection)
        if version not in (None, *VERSIONS):
            raise _newer(version)
        if not (version or _tables(connection)):
            _create(connection)
        elif version != VERSIONS[-1]:
            _upgrade(connection, version)
    return before


def current_version(engine: Engine) -> str | None:
    """The version of the tables; None where there are none."""
    with engine.connect() as connection:
        return noted_version(connection) or (VERSIONS[0] if _tables(connection) else None)


def noted_version(connection: Connection) -> str | None:
    """The version that is noted in the database."""
    if not inspect(connection).has_table(VERSION_TABLE.name):
        return None
    return connection.execute(select(VERSION_TABLE.c.version_num)).scalar()


def _create(connection: Connection) -> None:
    """Make what is absent, and note the version last: on MySQL, each of these statements is for good."""
    Base.metadata.create_all(connection)
    VERSION_TABLE.create(connection, checkfirst=True)
    connection.execute(VERSION_TABLE.insert().values(version_num=VERSIONS[-1]))


def _upgrade(connection: Connection, version: str | None) -> None:
    from alembic import command  # takes as long as all else that a worker imports, and is rarely needed
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    if version is None:
        _check_first(connection)
    command.upgrade(config, "head")


def _check_first(connection: Connection) -> None:
    """Tables without a version are those of the first one, or somebody else's."""
    for table in _FIRST_TABLES:
        there = _columns(connection, table)
        if there and not there >= _FIRST_COLUMNS:
            raise SchemaError(
                f"the database has a table {table} with the columns {', '.join(sorted(there))}; "
                f"expected that of celery-livelog: set livelog_database_url to another database"
            )


def _complete(connection: Connection) -> bool:
    """Whether the tables have all that they need, and only no version; an app may have made them from our models."""
    return all(
        _columns(connection, table.name) >= {column.name for column in table.columns}
        for table in Base.metadata.sorted_tables
    )


def _columns(connection: Connection, table: str) -> set[str]:
    inspector = inspect(connection)
    return {column["name"] for column in inspector.get_columns(table)} if inspector.has_table(table) else set()


def _tables(connection: Connection) -> set[str]:
    """Which of our tables are there."""
    return {*inspect(connection).get_table_names()} & {*Base.metadata.tables}


def _newer(version: str | None) -> SchemaError:
    return SchemaError(
        f"the tables of the catalog are of version {version}; "
        f"this celery-livelog knows none after {VERSIONS[-1]}: install the release that they are of"
    )


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction that only one process has at a time: several workers come to an absent or older catalog at once."""
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # which Python's sqlite3 does not do before it makes tables
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")
    elif engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            yield connection
    else:  # MySQL has no transactions for tables: the lock is the connection's
        with engine.begin() as connection:
            if connection.execute(select(func.get_lock(str(_LOCK), _LOCK_SECONDS))).scalar() != 1:
                raise SchemaError(f"the catalog is being upgraded for over {_LOCK_SECONDS} s: try again later")
            try:
                yield connection
            finally:
                connection.execute(select(func.release_lock(str(_LOCK))))
