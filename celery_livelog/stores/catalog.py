"""The catalog: which attempts there were, when, and how they ended, as rows of an SQL database.

Never holds output, and never retries: SQLAlchemy's errors go to the caller, who knows when to try again.

Rules:
- several workers write to one database, and any of them may write an attempt again;
- what is stored gives way only to what knows as much or more, whatever the order in which the two arrive;
- all writers touch the rows in one order, so that none waits for another in a circle.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, Select, Table, case, create_engine, event, inspect, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.sql import Insert
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from celery_livelog.attempts import Attempt
from celery_livelog.errors import SettingsError
from celery_livelog.stores.models import AttemptRow, Base, TaskRow, stored_id

_TASKS = Base.metadata.tables[TaskRow.__tablename__]
_ATTEMPTS = Base.metadata.tables[AttemptRow.__tablename__]
_DATABASES = ("sqlite", "postgresql", "mysql", "mariadb")

_IDS = frozenset({"attempt", "task_id", "root_id", "parent_id", "group_id", "run_id", "account", "site"})
_FIELDS = [_ATTEMPTS.c[name] for name in (*Attempt.__struct_fields__, "verbatim")]


class Catalog:
    """The catalog in the database at `url`.

    The tables are made at the first use: that a database is absent is an error of a use, not of the constructor.

    :raises SettingsError: when `url` cannot be used, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._created = False
        self._file = 0
        self._put_task = _upsert(self._engine.dialect.name, _TASKS)
        self._put_attempt = _upsert(self._engine.dialect.name, _ATTEMPTS)

    def write(self, attempts: Sequence[Attempt]) -> None:
        """Store a batch in one transaction; doing it again, or later than newer news, changes nothing.

        :raises sqlalchemy.exc.DBAPIError: when the database is absent, locked for 5 s or not ours. Nothing is stored.
        """
        if not attempts:
            return
        rows = sorted(map(_row, attempts), key=_age)
        try:
            with self._ready().begin() as connection:
                connection.execute(self._put_task, _task_rows(rows))
                connection.execute(self._put_attempt, _latest(rows, "attempt"))
        except DBAPIError:
            self._forget()
            raise

    def recent(self, limit: int, before: str | None = None) -> list[Attempt]:
        """Give up to `limit` attempts, newest start first.

        :param before: a time in ISO 8601 UTC, such as the `started` of the last one shown; only older ones are given.
        """
        newest = select(*_FIELDS).order_by(_ATTEMPTS.c.started.desc(), _ATTEMPTS.c.attempt.desc()).limit(limit)
        return self._read(newest if before is None else newest.where(_ATTEMPTS.c.started < before))

    def attempts(self, task_id: str) -> list[Attempt]:
        """Give all attempts of a task in order of start; none when the task is not known."""
        of_task = select(*_FIELDS).where(_ATTEMPTS.c.task_id == stored_id(task_id))
        return self._read(of_task.order_by(_ATTEMPTS.c.started, _ATTEMPTS.c.attempt))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _read(self, query: Select[Any]) -> list[Attempt]:
        with self._ready().connect() as connection:
            return [_attempt(row) for row in connection.execute(query).mappings()]

    def _ready(self) -> Engine:
        if self._file != _inode(self._engine):  # else SQLite would go on with a file that nobody finds any more
            self._forget()
        if not self._created:
            _create_tables(self._engine)
            self._created, self._file = True, _inode(self._engine)
        return self._engine

    def _forget(self) -> None:
        """Begin anew: what comes back may be another database, and a file that was read-only stays so while open."""
        self._engine.dispose()
        self._created = False


def _engine(url: str) -> Engine:
    try:
        # Hidden: the arguments of tasks, which SQLAlchemy would else put into the text of its errors.
        engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
    except (ArgumentError, ImportError) as error:
        raise SettingsError(f"livelog_database_url cannot be used: {error}") from error
    if engine.dialect.name not in _DATABASES:
        raise SettingsError(f"livelog_database_url is of {engine.dialect.name}; expected {', '.join(_DATABASES)}")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
    return engine


def _tune_sqlite(connection: DBAPIConnection, _: object) -> None:
    """Let readers and the one writer not wait for each other, and a commit not for the disk.

    Two writers wait up to 5 s for each other: `timeout` of Python's sqlite3.
    """
    cursor = connection.cursor()
    with suppress(sqlite3.OperationalError):  # no wait for this lock: who holds it has done the same, for all
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _sqlite_file(engine: Engine) -> Path | None:
    """The file of a database that is one."""
    file = engine.url.database
    plain = engine.dialect.name == "sqlite" and file and file != ":memory:" and not file.startswith("file:")
    return Path(file) if plain and file else None


def _inode(engine: Engine) -> int:
    """Which file the database is in; 0 when there is none."""
    file = _sqlite_file(engine)
    try:
        return 0 if file is None else file.stat().st_ino
    except OSError:
        return 0


def _create_tables(engine: Engine) -> None:
    file = _sqlite_file(engine)
    if file is not None:
        with suppress(OSError):  # then SQLite says that it cannot open the file
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for table in Base.metadata.sorted_tables:
        try:
            table.create(engine, checkfirst=True)
        except DBAPIError:
            if not inspect(engine).has_table(table.name):  # else another worker has made it just now
                raise


def _upsert(database: str, table: Table) -> Insert:
    """Insert a row, or update the one that is there where the new one knows more."""
    if database in ("mysql", "mariadb"):
        into_mysql = mysql.insert(table)
        # MySQL assigns from left to right: `version`, which decides for all the others, is the last column.
        return into_mysql.on_duplicate_key_update(_merged(table, into_mysql.inserted))
    into = sqlite.insert(table) if database == "sqlite" else postgresql.insert(table)
    return into.on_conflict_do_update(index_elements=table.primary_key, set_=dict(_merged(table, into.excluded)))


def _merged(
    table: Table, new: ReadOnlyColumnCollection[str, ColumnElement[Any]]
) -> list[tuple[str, ColumnElement[Any]]]:
    newer = new["version"] >= table.c.version
    columns = [column for column in table.columns if not column.primary_key]
    merged = {column.name: case((newer, new[column.name]), else_=column) for column in columns}
    if "first_started" in merged:
        first = table.c.first_started
        merged["first_started"] = case((new["first_started"] < first, new["first_started"]), else_=first)
    return list(merged.items())


def _row(attempt: Attempt) -> dict[str, Any]:
    given = msgspec.structs.asdict(attempt)
    row = {name: _stored(name, value) if isinstance(value, str) else value for name, value in given.items()}
    verbatim = {name: value for name, value in given.items() if row[name] != value}
    row["verbatim"] = json.dumps(verbatim) if verbatim else ""
    row["version"] = 2 * bool(attempt.ended) + bool(attempt.archive)
    return row


def _stored(name: str, text: str) -> str:
    """A text as every database takes it: PostgreSQL refuses NUL, and none knows lone surrogates."""
    if name in _IDS:
        return stored_id(text)
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _attempt(row: Mapping[Any, Any]) -> Attempt:
    fields = dict(row)
    verbatim = fields.pop("verbatim")
    return Attempt(**{**fields, **json.loads(verbatim or "{}")})


def _age(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["started"], row["attempt"], row["version"]


def _task_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the tasks that attempts, oldest first, belong to."""
    first_started = {row["task_id"]: row["started"] for row in reversed(rows)}
    return [
        {column.name: row.get(column.name) for column in _TASKS.columns}
        | {"first_started": first_started[row["task_id"]], "version": "{} {} {}".format(*_age(row))}
        for row in _latest(rows, "task_id")
    ]


def _latest(rows: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """One row for each `key`, in order of it: no statement may meet a row twice."""
    return [row for _, row in sorted({row[key]: row for row in rows}.items())]
