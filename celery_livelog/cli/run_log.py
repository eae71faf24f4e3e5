"""``livelog logs --run``: the last lines of all tasks of a run, in order of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import click

from celery_livelog.attempts import Attempt
from celery_livelog.cli.output import Output
from celery_livelog.cli.rendering import JsonLines
from celery_livelog.cli.terminal import harmless
from celery_livelog.reader import Reader
from celery_livelog.run_answers import run_log

#: Lines that are shown when nobody says how many: a run's log is put together in memory.
_LINES = 1000


async def print_run(
    reader: Reader, run_id: str, tail: int | None, output: Output, *, as_json: bool = False, raw: bool = False
) -> int:
    """Print the last `tail` lines of a run's log, as the API gives them, or its records.

    :returns: the exit code: 1 when the run has failed.
    :raises click.ClickException: when there is no such run.
    """
    view = await reader.runs.get(run_id)
    if view is None:
        raise click.ClickException(f"nothing is known of a run {run_id}")
    count = _LINES if tail is None else tail
    if as_json:
        runs = reader.runs.within(view.account, view.site)
        numbers = _numbers(await runs.attempts(run_id))
        for attempt, record in await runs.tail(run_id, count):
            rendering = JsonLines(attempt.task_id, on_terminal=output.on_terminal)
            output.write(rendering.feed(numbers.get(attempt.attempt, 0), record))
    else:
        text = await run_log(reader.runs, run_id, count) or ""
        plain = raw or not output.on_terminal
        output.write(text if plain else "".join(f"{harmless(line, output.colour)}\n" for line in text.splitlines()))
        if tail is None and text.count("\n") == _LINES:
            output.note(f"these are the last {_LINES} lines; --tail N shows more")
    return int(view.state == "FAILURE")


def _numbers(attempts: Iterable[Attempt]) -> dict[str, int]:
    """Which attempt of its task each is: 1, 2, 3 in order of start."""
    counts = Counter[str]()
    numbers: dict[str, int] = {}
    for attempt in attempts:
        counts[attempt.task_id] += 1
        numbers[attempt.attempt] = counts[attempt.task_id]
    return numbers
