"""``livelog runs``: the newest runs, or one with its tasks and stages."""

from __future__ import annotations

from collections.abc import Sequence
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
from celery_livelog.reader.run_reader import RunReader
from celery_livelog.run_answers import run_description, tasks_of
from celery_livelog.runs import RunView, Stage

_STYLES = {"RUNNING": "cyan", "STARTED": "cyan", "SUCCESS": "green", "RETRY": "yellow", "REVOKED": "yellow"}
_STYLES |= {"running": "cyan", "complete": "green", "interrupted": "yellow"}
_RUNS = Columns(
    ("RUN", "NAME", "STATE", "TASKS", "RUNNING", "FAILED", "STARTED", "DURATION", "ACCOUNT", "SITE"),
    numbers=frozenset({"TASKS", "RUNNING", "FAILED", "DURATION"}),
    styles=_STYLES,
)
_TASKS = Columns(
    ("TASK", "NAME", "STATE", "ATTEMPTS", "STARTED", "DURATION", "LINES"),
    numbers=frozenset({"ATTEMPTS", "DURATION", "LINES"}),
    styles=_STYLES,
)
_STAGES = Columns(
    ("STAGE", "NAME", "STATE", "DONE", "TOTAL", "STARTED", "DURATION", "MESSAGE"),
    numbers=frozenset({"STAGE", "DONE", "TOTAL", "DURATION"}),
    styles=_STYLES,
)


@click.command()
@click.argument("run_id", metavar="[RUN_ID]", required=False)
@click.option("--account", metavar="A", help="Only runs of this account.")
@click.option("--site", metavar="S", help="Only runs of this site.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=50, help="N runs at most; 50 if not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run.")
@click.pass_obj
def runs(context: Any, run_id: str | None, account: str | None, site: str | None, limit: int, as_json: bool) -> None:
    """List runs, newest first; with RUN_ID, show the tasks and stages of that one."""
    output = Output(colour=not context.no_color)

    async def shown(reader: Reader) -> int:
        scoped = reader.runs.within(account, site)
        if run_id is not None:
            await (_print_json if as_json else _print)(output, scoped, run_id)
            return 0
        found = await scoped.recent(limit)
        if as_json:
            output.write("".join(f"{msgspec.json.encode(msgspec.structs.asdict(view)).decode()}\n" for view in found))
        else:
            _show(output, _RUNS, [_run_cells(view, output.on_terminal) for view in found])
        return 0

    run(context, shown)


async def _print_json(output: Output, runs: RunReader, run_id: str) -> None:
    description = await run_description(runs, run_id)
    if description is None:
        raise _unknown(run_id)
    output.write(f"{msgspec.json.encode(description).decode()}\n")


async def _print(output: Output, runs: RunReader, run_id: str) -> None:
    view = await runs.get(run_id)
    if view is None:
        raise _unknown(run_id)
    runs = runs.within(view.account, view.site)
    tasks, stages = tasks_of(await runs.attempts(run_id)), await runs.stages(run_id)
    _show(output, _RUNS, [_run_cells(view, output.on_terminal)])
    if view.error:
        output.write(f"{harmless(view.error, styles=False)}\n")
    if tasks:
        output.write("\n")
        _show(output, _TASKS, [_task_cells(latest, count, output.on_terminal) for latest, count in tasks])
    if stages:
        output.write("\n")
        _show(output, _STAGES, [_stage_cells(stage, output.on_terminal) for stage in stages])


def _unknown(run_id: str) -> click.ClickException:
    return click.ClickException(f"nothing is known of a run {run_id}")


def _show(output: Output, columns: Columns, rows: Sequence[Sequence[str]]) -> None:
    output.write(columns.coloured(rows, output.colour) if output.on_terminal else columns.plain(rows))


def _run_cells(view: RunView, relative: bool) -> list[str]:
    now = datetime.now(timezone.utc)
    texts = (view.run_id, view.name, view.state)
    counts = (view.tasks, view.running, view.failed)
    times = (moment(view.started, now, relative=relative), duration(view.started, view.ended, now))
    return [*_harmless(*texts), *map(str, counts), *times, *_harmless(view.account, view.site)]


def _task_cells(latest: Attempt, count: int, relative: bool) -> list[str]:
    now = datetime.now(timezone.utc)
    times = (moment(latest.started, now, relative=relative), duration(latest.started, latest.ended, now))
    return [*_harmless(latest.task_id, latest.name, latest.state), str(count), *times, str(latest.lines)]


def _stage_cells(stage: Stage, relative: bool) -> list[str]:
    now = datetime.now(timezone.utc)
    total = "" if stage.total is None else str(stage.total)
    times = (moment(stage.started, now, relative=relative), duration(stage.started, stage.ended, now))
    said = stage.error or stage.message
    return [str(stage.stage), *_harmless(stage.name, stage.state), str(stage.done), total, *times, *_harmless(said)]


def _harmless(*texts: str) -> list[str]:
    return [harmless(text, styles=False) for text in texts]
