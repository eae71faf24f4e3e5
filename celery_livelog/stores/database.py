"""The database that the catalog is in: its engine, which is made ready with the first use and anew after a failure."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError

from celery_livelog.errors import SettingsError
from celery_livelog.stores import schema

_DATABASES = ("sqlite", "postgresql", "mysql", "mariadb")


class Database:
    """The database at `url`.

    :raises SettingsError: when `url` cannot be used, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._made_ready = False
        self._file = 0

    @property
    def dialect(self) -> str:
        """``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``."""
        return self._engine.dialect.name

    def ready(self) -> Engine:
        """The engine, with the tables that this version needs.

        :raises SchemaError: when they are another version's, and not ours to change.
        :raises sqlalchemy.exc.DBAPIError: when the database cannot be used.
        """
        if self._file != _inode(self._engine):  # else SQLite would go on with a file that nobody finds any more
            self.forget()
        if not self._made_ready:
            _make_folder(self._engine)
            schema.make_ready(self._engine)
            self._made_ready, self._file = True, _inode(self._engine)
        return self._engine

    def version(self) -> str | None:
        """The version of the tables; None where there are none."""
        _make_folder(self._engine)
        return schema.current_version(self._engine)

    def upgrade(self) -> str | None:
        """Bring the tables to the version that this package needs; give the one that they were of.

        :raises SchemaError: when they are newer, or not ours.
        """
        _make_folder(self._engine)
        return schema.upgrade(self._engine)

    def forget(self) -> None:
        """Begin anew: what comes back may be another database, and a file that was read-only stays so while open."""
        self._engine.dispose()
        self._made_ready = False

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


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


def _make_folder(engine: Engine) -> None:
    """Make the folder of a SQLite file, private to its owner."""
    file = _sqlite_file(engine)
    if file is not None:
        with suppress(OSError):  # then SQLite says that it cannot open the file
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
