"""What is known of attempts, runs and stages as rows of the catalog's tables, and back. Pure; knows no database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.stores.models import Base, TaskRow, stored_id

Row = dict[str, Any]
_S = TypeVar("_S", bound=msgspec.Struct)

_IDS = frozenset({"attempt", "task_id", "root_id", "parent_id", "group_id", "run_id", "account", "site"})
_TASK_COLUMNS = [column.name for column in Base.metadata.tables[TaskRow.__tablename__].columns]
_GREATEST = (1 << 63) - 1


def attempt_rows(attempts: Iterable[Attempt]) -> list[Row]:
    """The rows of attempts in order of their key, each of the newest of what is known of one."""
    return _latest(sorted(map(_attempt_row, attempts), key=_age), "attempt")


def task_rows(attempts: Iterable[Attempt]) -> list[Row]:
    """The rows of the tasks that attempts belong to, in order of their key."""
    rows = sorted(map(_attempt_row, attempts), key=_age)
    first_started = {row["task_id"]: row["started"] for row in reversed(rows)}
    return [
        {name: row.get(name) for name in _TASK_COLUMNS}
        | {"first_started": first_started[row["task_id"]], "version": "{} {} {}".format(*_age(row))}
        for row in _latest(rows, "task_id")
    ]


def run_rows(runs: Iterable[RunEntry]) -> list[Row]:
    """The rows of runs in order of their key."""
    rows = sorted(map(_run_row, runs), key=lambda row: str(row["version"]))
    first = {_run_key(row): row["started"] for row in sorted(rows, key=lambda row: str(row["started"]), reverse=True)}
    return [row | {"started": first[_run_key(row)]} for row in _latest(rows, "run_id", "account", "site")]


def stage_rows(stages: Iterable[Stage]) -> list[Row]:
    """The rows of stages in order of their key."""
    return _latest(sorted(map(_stage_row, stages), key=lambda row: int(row["version"])), "attempt", "stage")


def read_row(row: Mapping[Any, Any], kind: type[_S]) -> _S:
    """What a row tells.

    :param kind: `Attempt`, `RunEntry` or `Stage`.
    """
    known = {**row, **json.loads(row["verbatim"] or "{}")}
    if kind is RunEntry:
        known["fields"] = json.loads(known["fields"])
    elif kind is Stage:
        known |= {"result": json.loads(known["result"] or "null"), "n": known["version"]}
    return kind(**{name: known[name] for name in kind.__struct_fields__})


def _attempt_row(attempt: Attempt) -> Row:
    row = _stored(msgspec.structs.asdict(attempt))
    row["version"] = 2 * bool(attempt.ended) + bool(attempt.archive)
    return row


def _run_row(run: RunEntry) -> Row:
    row = _stored(msgspec.structs.asdict(run) | {"fields": json.dumps(run.fields)})
    row["version"] = f"2 {run.ended}" if run.ended else "1" if run.named else "0"
    return row


def _stage_row(stage: Stage) -> Row:
    result = "" if stage.result is None else json.dumps(stage.result)
    row = _stored(msgspec.structs.asdict(stage) | {"result": result})
    row["version"] = row.pop("n")
    return row


def _stored(given: Row) -> Row:
    """The fields of a row as every database takes them; `verbatim` has the true text of those that were changed."""
    row = {name: _stored_value(name, value) for name, value in given.items()}
    verbatim = {name: value for name, value in given.items() if isinstance(value, str) and row[name] != value}
    return row | {"verbatim": json.dumps(verbatim) if verbatim else ""}


def _stored_value(name: str, value: Any) -> Any:
    """PostgreSQL refuses NUL, none knows lone surrogates, and whole numbers have 64 bits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_GREATEST, min(value, _GREATEST))
    if not isinstance(value, str):
        return value
    if name in _IDS:
        return stored_id(value)
    return value.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _age(row: Row) -> tuple[str, str, int]:
    return row["started"], row["attempt"], row["version"]


def _run_key(row: Row) -> tuple[str, str, str]:
    return row["run_id"], row["account"], row["site"]


def _latest(rows: Sequence[Row], *key: str) -> list[Row]:
    """One row, the last, for each `key`, in order of it: no statement may meet a row twice."""
    return [row for _, row in sorted({tuple(row[name] for name in key): row for row in rows}.items())]
