"""``livelog logs``: the log of one task, as far as it goes or until the task is over."""

from __future__ import annotations

import re
import shutil
from collections.abc import Awaitable
from datetime import datetime, timezone
from typing import Any

import click

from celery_livelog.cli.output import Output
from celery_livelog.cli.printing import Printer
from celery_livelog.cli.rendering import JsonLines, Pipe, Rendering, Screen
from celery_livelog.cli.run_log import follow_run, print_run
from celery_livelog.cli.session import run
from celery_livelog.cli.showing import Request, Showing
from celery_livelog.cli.times import parse_since
from celery_livelog.reader import Reader
from celery_livelog.records import utc
from celery_livelog.selection import LEVELS, Selection


def _since(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """The time that was given, as records carry it."""
    if value is None:
        return None
    try:
        since = parse_since(value, datetime.now(timezone.utc))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return utc(int(since.timestamp() * 1_000_000) * 1000)


def _pattern(_context: click.Context, _option: click.Parameter, value: str | None) -> re.Pattern[str] | None:
    try:
        return None if value is None else re.compile(value)
    except re.error as error:
        raise click.BadParameter(f"{value!r} is not a regular expression: {error}") from None


@click.command()
@click.argument("task_id", metavar="[ID]", required=False)
@click.option("--run", "run_id", metavar="RUN", help="Instead of a task: all tasks of a run.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task is over; wait for it if it has not started.")
@click.option("-n", "--tail", metavar="N", type=click.IntRange(min=0), help="Only the last N lines of what is there.")
@click.option("--since", metavar="T", callback=_since, help="Only what is newer than a duration (5m), or a time.")
@click.option(
    "--stream",
    "streams",
    multiple=True,
    type=click.Choice(["stdout", "stderr", "log", "internal"]),
    help="Only this stream; may be given again.",
)
@click.option(
    "--level",
    type=click.Choice([*LEVELS], case_sensitive=False),
    help="Only what was logged at this level or above; not what was printed.",
)
@click.option("--stage", metavar="X", help="Only the stage with this number or name.")
@click.option("--attempt", metavar="K", type=click.IntRange(min=1), help="Only the first, second, … attempt.")
@click.option(
    "--grep", "pattern", metavar="RE", callback=_pattern, help="Only lines that this regular expression is found in."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a record.")
@click.option("--raw", is_flag=True, help="On a terminal, too: the bytes as they were printed.")
@click.option("--timestamps", is_flag=True, help="The local time before each line.")
@click.pass_obj
def logs(
    context: Any,
    task_id: str | None,
    run_id: str | None,
    follow: bool,
    tail: int | None,
    since: str | None,
    streams: tuple[str, ...],
    level: str | None,
    stage: str | None,
    attempt: int | None,
    pattern: re.Pattern[str] | None,
    as_json: bool,
    raw: bool,
    timestamps: bool,
) -> None:
    """Print the log of task ID, from its first line, live or archived; or that of a run: its end, or all with --follow.

    The exit code is the task's: 0 for success, 1 for a failure, 128 + N when signal N killed it; 0 while it runs.
    """
    if as_json and raw:
        raise click.UsageError("--json and --raw cannot be given together")
    if (task_id is None) == (run_id is None):
        raise click.UsageError("expected either the ID of a task or --run RUN")
    if run_id is not None and (timestamps or streams or any((level, stage, since, attempt, pattern))):
        raise click.UsageError("--run goes with --follow, --tail, --json and --raw only")
    if run_id is not None and follow and tail is not None:
        raise click.UsageError("--follow shows all of a run; expected it without --tail")
    output = Output(colour=not context.no_color)
    selection = Selection(
        streams=frozenset(streams),
        level=None if level is None else LEVELS[level.upper()],
        stage=stage,
        since=since,
        pattern=pattern,
    )
    if task_id is None:
        of_run = run_id or ""
        if follow:
            run(context, lambda reader: follow_run(reader, of_run, output, as_json=as_json, raw=raw))
        run(context, lambda reader: print_run(reader, of_run, tail, output, as_json=as_json, raw=raw))
    rendering: Rendering
    if as_json:
        rendering = JsonLines(task_id, on_terminal=output.on_terminal)
    elif output.on_terminal and not raw:
        rendering = Screen(lambda: shutil.get_terminal_size().columns, output.colour, timestamps)
    else:
        rendering = Pipe(timestamps)
    printer = Printer(output, rendering, notes=not as_json, internal="internal" in streams, timestamps=timestamps)
    request = Request(task_id=task_id, attempt=attempt, tail=tail, follow=follow)
    whole_lines = as_json or tail is not None or not selection.everything

    def read(reader: Reader) -> Awaitable[int]:
        return Showing(reader, request, selection, printer, whole_lines).run()

    try:
        run(context, read)
    finally:
        printer.close()
