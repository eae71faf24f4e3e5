"""What the catalog is asked of runs, as statements for any database.

Each takes scopes, accounts with their sites, and finds only what is in all of them; None stands for any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, case, exists, func, literal_column, null, or_, select

from celery_livelog.stores.models import AttemptRow, Base, RunRow, StageRow, TaskRow, stored_id

#: An account and a site.
Scope = tuple[str | None, str | None]

_TASKS = Base.metadata.tables[TaskRow.__tablename__]
_ATTEMPTS = Base.metadata.tables[AttemptRow.__tablename__]
_RUNS = Base.metadata.tables[RunRow.__tablename__]
_STAGES = Base.metadata.tables[StageRow.__tablename__]


def newest(limit: int, before: str | None, fields: Mapping[str, str], *scopes: Scope) -> Select[Any]:
    """Runs that are more than one task without a stage, which is its own run, begun with these fields."""
    tasks = select(func.count()).where(_same_run(_TASKS)).correlate(_RUNS).scalar_subquery()
    staged = exists().where(_same_run(_STAGES)).correlate(_RUNS)
    listed = select(_RUNS).where(or_(_RUNS.c.named, staged, tasks > 1), *_begun_with(fields), *_scope(_RUNS, scopes))
    if before is not None:
        listed = listed.where(_RUNS.c.started < before)
    return listed.order_by(_RUNS.c.started.desc(), _RUNS.c.run_id.desc()).limit(limit)


def entries(run_id: str, fields: Mapping[str, str], *scopes: Scope) -> Select[Any]:
    """The runs with an id, begun with these fields: one for each account and site."""
    of_run = select(_RUNS).where(_RUNS.c.run_id == stored_id(run_id), *_begun_with(fields), *_scope(_RUNS, scopes))
    return of_run.order_by(_RUNS.c.started.desc())


def tallies(run_ids: Sequence[str], *scopes: Scope) -> Select[Any]:
    """The tasks of runs, counted by how their latest attempts stand; see `catalog.Tally`."""
    # No parameter: PostgreSQL takes two of them in SELECT and GROUP BY for two expressions.
    lease = case((_TASKS.c.ended == literal_column("''"), _ATTEMPTS.c.lease), else_=null())
    run = (_TASKS.c.run_id, _TASKS.c.account, _TASKS.c.site)
    counts = (func.count(), func.min(_TASKS.c.first_started), func.max(_TASKS.c.ended))
    return (
        select(*run, _TASKS.c.state, lease, *counts)
        .join_from(_TASKS, _ATTEMPTS, _ATTEMPTS.c.attempt == _TASKS.c.attempt)
        .where(_TASKS.c.run_id.in_(map(stored_id, run_ids)), *_scope(_TASKS, scopes))
        .group_by(*run, _TASKS.c.state, lease)
    )


def attempts(run_id: str, *scopes: Scope) -> Select[Any]:
    """All attempts of a run in order of start."""
    of_run = select(_ATTEMPTS).where(_ATTEMPTS.c.run_id == stored_id(run_id), *_scope(_ATTEMPTS, scopes))
    return of_run.order_by(_ATTEMPTS.c.started, _ATTEMPTS.c.attempt)


def attempts_in_stages(run_id: str, *scopes: Scope) -> Select[Any]:
    """The attempts that have stages of a run of which no end is stored."""
    of_run = and_(_STAGES.c.run_id == stored_id(run_id), _STAGES.c.ended == "", *_scope(_STAGES, scopes))
    return select(_ATTEMPTS).where(_ATTEMPTS.c.attempt.in_(select(_STAGES.c.attempt).where(of_run)))


def stages(run_id: str, *scopes: Scope) -> Select[Any]:
    """All stages of a run in order of start."""
    of_run = select(_STAGES).where(_STAGES.c.run_id == stored_id(run_id), *_scope(_STAGES, scopes))
    return of_run.order_by(_STAGES.c.started, _STAGES.c.attempt, _STAGES.c.stage)


def _begun_with(fields: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """What holds for all runs with these fields, and for hardly another: some databases take "A" and "a" for one."""
    pairs = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    return [_RUNS.c.fields.contains(pair, autoescape=True) for pair in pairs]


def _same_run(table: Table) -> ColumnElement[bool]:
    return and_(table.c.run_id == _RUNS.c.run_id, table.c.account == _RUNS.c.account, table.c.site == _RUNS.c.site)


def _scope(table: Table, scopes: Sequence[Scope]) -> list[ColumnElement[bool]]:
    asked = [pair for scope in scopes for pair in zip(("account", "site"), scope, strict=True)]
    return [table.c[name] == stored_id(value) for name, value in asked if value is not None]
