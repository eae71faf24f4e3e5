"""The catalog: which runs, attempts and stages there were, when, and how they ended, as rows of an SQL database.

Never holds output, and never retries: SQLAlchemy's errors go to the caller, who knows when to try again.

Rules:
- several workers write to one database, and any of them may write an attempt, run or stage again;
- what is stored gives way only to what knows as much or more, whatever the order in which the two arrive;
- all writers touch tables and rows in one order, so that none waits for another in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.exc import DBAPIError

from celery_livelog.attempts import Attempt
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.stores import run_queries
from celery_livelog.stores.database import Database
from celery_livelog.stores.models import AttemptRow, Base, RunRow, StageRow, TaskRow, stored_id
from celery_livelog.stores.rows import attempt_rows, read_row, run_rows, stage_rows, task_rows
from celery_livelog.stores.run_queries import Scope
from celery_livelog.stores.upserts import upsert

_S = TypeVar("_S", bound=msgspec.Struct)

_TABLES = [Base.metadata.tables[model.__tablename__] for model in (TaskRow, AttemptRow, RunRow, StageRow)]
_ATTEMPTS = Base.metadata.tables[AttemptRow.__tablename__]
_ANY: Mapping[str, str] = MappingProxyType({})


class Tally(NamedTuple):
    """So many tasks of a run have a latest attempt in this state; `lease` is set while that has no end."""

    run_id: str
    account: str
    site: str
    state: str
    lease: str | None
    tasks: int
    started: str
    ended: str


class Catalog:
    """The catalog in the database at `url`.

    It is made ready at the first use: that a database is absent, or of another version, is an error of a use, not of
    the constructor.

    :raises SettingsError: when `url` cannot be used, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._puts = [upsert(self._database.dialect, table) for table in _TABLES]

    def write(self, attempts: Sequence[Attempt], runs: Sequence[RunEntry] = (), stages: Sequence[Stage] = ()) -> None:
        """Store a batch in one transaction; doing it again, or later than newer news, changes nothing.

        :raises sqlalchemy.exc.DBAPIError: when the database is absent, locked for 5 s or not ours. Nothing is stored.
        :raises SchemaError: when its tables are those of another version.
        """
        batches = [task_rows(attempts), attempt_rows(attempts), run_rows(runs), stage_rows(stages)]
        if not any(batches):
            return
        try:
            with self._database.ready().begin() as connection:
                for put, rows in zip(self._puts, batches, strict=True):
                    if rows:
                        connection.execute(put, rows)
        except DBAPIError:
            self._database.forget()
            raise

    def recent(
        self, limit: int, before: str | None = None, account: str | None = None, site: str | None = None
    ) -> list[Attempt]:
        """Give up to `limit` attempts, newest start first.

        :param before: a time in ISO 8601 UTC, such as the `started` of the last one shown; only older ones are given.
        :param account: only those of this account.
        :param site: only those of this site.
        """
        newest = select(_ATTEMPTS).order_by(_ATTEMPTS.c.started.desc(), _ATTEMPTS.c.attempt.desc()).limit(limit)
        for name, value in (("account", account), ("site", site)):
            if value is not None:
                newest = newest.where(_ATTEMPTS.c[name] == stored_id(value))
        return self._read(newest if before is None else newest.where(_ATTEMPTS.c.started < before), Attempt)

    def attempts(self, task_id: str) -> list[Attempt]:
        """Give all attempts of a task in order of start; none when the task is not known."""
        of_task = select(_ATTEMPTS).where(_ATTEMPTS.c.task_id == stored_id(task_id))
        return self._read(of_task.order_by(_ATTEMPTS.c.started, _ATTEMPTS.c.attempt), Attempt)

    def runs(self, limit: int, before: str | None, *scopes: Scope, fields: Mapping[str, str] = _ANY) -> list[RunEntry]:
        """Give up to `limit` runs, newest start first: named ones, and those with a stage or more than one task.

        :param before: a time in ISO 8601 UTC; only older ones are given.
        :param fields: what they were begun with.
        :param scopes: accounts with their sites; only what is in all of them is given. So it is in all that follows.
        """
        return _begun_with(fields, self._read(run_queries.newest(limit, before, fields, *scopes), RunEntry))

    def entries(self, run_id: str, *scopes: Scope, fields: Mapping[str, str] = _ANY) -> list[RunEntry]:
        """Give the runs with this id and these fields, newest start first: one at most for each account and site."""
        return _begun_with(fields, self._read(run_queries.entries(run_id, fields, *scopes), RunEntry))

    def tallies(self, run_ids: Sequence[str], *scopes: Scope) -> list[Tally]:
        """Count the tasks of runs by the state of their latest attempts."""
        query = run_queries.tallies(run_ids, *scopes)
        with self._database.ready().connect() as connection:
            return [Tally(*row) for row in connection.execute(query)]

    def attempts_of_run(self, run_id: str, *scopes: Scope) -> list[Attempt]:
        """Give all attempts of all tasks of a run in order of start."""
        return self._read(run_queries.attempts(run_id, *scopes), Attempt)

    def attempts_in_stages(self, run_id: str, *scopes: Scope) -> list[Attempt]:
        """Give the attempts that have stages of a run of which no end is stored."""
        return self._read(run_queries.attempts_in_stages(run_id, *scopes), Attempt)

    def stages_of_run(self, run_id: str, *scopes: Scope) -> list[Stage]:
        """Give all stages of a run in order of start."""
        return self._read(run_queries.stages(run_id, *scopes), Stage)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def _read(self, query: Select[Any], kind: type[_S]) -> list[_S]:
        with self._database.ready().connect() as connection:
            return [read_row(row, kind) for row in connection.execute(query).mappings()]


def _begun_with(fields: Mapping[str, str], entries: list[RunEntry]) -> list[RunEntry]:
    return [entry for entry in entries if fields.items() <= entry.fields.items()]
