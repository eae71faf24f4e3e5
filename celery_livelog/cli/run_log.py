"""``livelog logs --run``: the last lines of all tasks of a run, in order of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import click

from celery_livelog.attempts import Attempt
from celery_livelog.cli.output import Output
from celery_livelog.cli.printing import Printer
from celery_livelog.cli.rendering import JsonLines, Rendering
from celery_livelog.reader import Reader

#: Lines that are shown when nobody says how many: a run's log is put together in memory.
_LINES = 1000


async def print_run(
    reader: Reader, run_id: str, tail: int | None, output: Output, rendering: Rendering | None, *, timestamps: bool
) -> int:
    """Print the end of a run's log: its last `tail` records.

    :param rendering: None for JSON.
    :returns: the exit code: 1 when the run has failed.
    :raises click.ClickException: when there is no such run.
    """
    view = await reader.runs.get(run_id)
    if view is None:
        raise click.ClickException(f"nothing is known of a run {run_id}")
    runs = reader.runs.within(view.account, view.site)
    found = await runs.tail(run_id, _LINES if tail is None else tail)
    if rendering is None:
        numbers = _numbers(await runs.attempts(run_id))
        for attempt, record in found:
            as_json = JsonLines(attempt.task_id, on_terminal=output.on_terminal)
            output.write(as_json.feed(numbers[attempt.attempt], record))
    else:
        printer = Printer(output, rendering, timestamps=timestamps)
        if tail is None and len(found) == _LINES:
            printer.note(f"the last {_LINES} lines; --tail N shows more")
        printer.print(0, [record for _, record in found])
        printer.close()
    return int(view.state == "FAILURE")


def _numbers(attempts: Iterable[Attempt]) -> dict[str, int]:
    """Which attempt of its task each is: 1, 2, 3 in order of start."""
    counts = Counter[str]()
    numbers: dict[str, int] = {}
    for attempt in attempts:
        counts[attempt.task_id] += 1
        numbers[attempt.attempt] = counts[attempt.task_id]
    return numbers
