"""``livelog logs --run``: the lines of all tasks of a run, in order of time: the last ones, or all that come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing

import click

from celery_livelog.attempts import Attempt
from celery_livelog.cli.output import Output
from celery_livelog.cli.rendering import JsonLines
from celery_livelog.cli.terminal import harmless
from celery_livelog.reader import Reader
from celery_livelog.reader.run_log import RunLog
from celery_livelog.records import End, Partial, Record
from celery_livelog.run_answers import run_log, told
from celery_livelog.selection import Joiner

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


async def follow_run(reader: Reader, run_id: str, output: Output, *, as_json: bool = False, raw: bool = False) -> int:
    """Print all that the tasks of a run have printed and print, until it is over; wait for one that has not begun.

    :returns: the exit code: 1 when the run has failed.
    """
    log = RunLog(reader, run_id)
    shown: dict[str, _Shown] = {}
    async with aclosing(log.batches()) as batches:
        async for task_id, batch in batches:
            if task_id not in shown:
                shown[task_id] = _Shown(log.task(task_id), output, as_json=as_json, raw=raw)
            for record in batch.records:
                shown[task_id].show(batch.number, record)
    return int(log.state == "FAILURE")


class _Shown:
    """One task of a run that is followed."""

    def __init__(self, task: Attempt, output: Output, *, as_json: bool, raw: bool) -> None:
        self._task = task
        self._output = output
        self._plain = raw or not output.on_terminal
        self._lines = JsonLines(task.task_id, on_terminal=output.on_terminal) if as_json else None
        self._joiner = Joiner()

    def show(self, number: int, record: Record) -> None:
        whole = None if isinstance(record, Partial) else self._joiner.feed(number, record)
        if whole is None:
            return
        if self._lines is not None:
            self._output.write(self._lines.feed(number, whole))
        elif not (isinstance(whole, End) and whole.state == "SUCCESS"):
            lines = told(self._task, whole)
            colour = self._output.colour
            self._output.write("".join(f"{line if self._plain else harmless(line, colour)}\n" for line in lines))


def _numbers(attempts: Iterable[Attempt]) -> dict[str, int]:
    """Which attempt of its task each is: 1, 2, 3 in order of start."""
    counts = Counter[str]()
    numbers: dict[str, int] = {}
    for attempt in attempts:
        counts[attempt.task_id] += 1
        numbers[attempt.attempt] = counts[attempt.task_id]
    return numbers
