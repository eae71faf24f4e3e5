"""``livelog ls``: running and recent tasks, newest first."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import click
import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.cli.output import Output
from celery_livelog.cli.session import run
from celery_livelog.cli.tables import Columns, duration, moment
from celery_livelog.cli.terminal import harmless
from celery_livelog.reader import Reader

_TABLE = Columns(
    ("TASK", "NAME", "STATE", "ATTEMPTS", "STARTED", "DURATION", "LINES", "WORKER"),
    numbers=frozenset({"ATTEMPTS", "DURATION", "LINES"}),
    styles={"STARTED": "cyan", "SUCCESS": "green", "RETRY": "yellow", "REVOKED": "yellow"},
)


@dataclass(frozen=True, slots=True)
class Row:
    """A task: its latest attempt, and how many are known."""

    latest: Attempt
    attempts: int


@click.command()
@click.option("--state", metavar="S", type=str.upper, help="Only tasks in this state, such as STARTED or FAILURE.")
@click.option("--name", metavar="PATTERN", help="Only task names like this; * stands for anything.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=50, help="N tasks at most; 50 if not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a task.")
@click.pass_obj
def ls(context: Any, state: str | None, name: str | None, limit: int, as_json: bool) -> None:
    """List running and recent tasks, newest first."""
    output = Output(colour=not context.no_color)

    async def listed(reader: Reader) -> int:
        rows = await _recent(reader, limit, state, name)
        now = datetime.now(timezone.utc)
        if as_json:
            output.write("".join(map(_json, rows)))
        elif output.on_terminal:
            output.write(coloured(rows, now, output.colour))
        else:
            output.write(plain(rows, now))
        return 0

    run(context, listed)


async def _recent(reader: Reader, limit: int, state: str | None, name: str | None) -> list[Row]:
    """The newest tasks that fit; attempts are read further back until there are enough."""
    count = limit
    while True:
        attempts = await reader.recent(count)
        rows = [row for row in tasks(attempts) if _fits(row.latest, state, name)]
        if len(rows) >= limit or len(attempts) < count:
            return rows[:limit]
        count *= 4


def tasks(attempts: Sequence[Attempt]) -> list[Row]:
    """One row for each task of attempts that come newest first."""
    known: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        known.setdefault(attempt.task_id, []).append(attempt)
    return [Row(of_task[0], len(of_task)) for of_task in known.values()]


def _fits(attempt: Attempt, state: str | None, name: str | None) -> bool:
    if state is not None and attempt.state != state:
        return False
    return name is None or fnmatch.fnmatchcase(attempt.name, name)


def plain(rows: Sequence[Row], now: datetime) -> str:
    """Aligned columns for a pipe."""
    return _TABLE.plain([[*_cells(row, now, relative=False)] for row in rows])


def coloured(rows: Sequence[Row], now: datetime, colour: bool) -> str:
    """A table for a terminal."""
    return _TABLE.coloured([[*_cells(row, now, relative=True)] for row in rows], colour)


def _cells(row: Row, now: datetime, relative: bool) -> Iterator[str]:
    latest = row.latest
    yield harmless(latest.task_id, styles=False)
    yield harmless(latest.name, styles=False)
    yield harmless(latest.state, styles=False)
    yield str(max(row.attempts, latest.retries + 1))
    yield moment(latest.started, now, relative=relative)
    yield duration(latest.started, latest.ended, now)
    yield str(latest.lines)
    yield harmless(latest.worker, styles=False)


def _json(row: Row) -> str:
    return msgspec.json.encode({**msgspec.structs.asdict(row.latest), "attempts": row.attempts}).decode() + "\n"
