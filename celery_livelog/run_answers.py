"""What is shown of runs, alike in the API, on pages and in the terminal: plain values that JSON can hold, and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict

from celery_livelog.attempts import Attempt
from celery_livelog.reader.run_reader import RunReader
from celery_livelog.records import Record

#: Lines of a run's log that are shown when nobody says how many, and at most.
LINES, MOST_LINES = 100, 10_000
#: Runs of a list, likewise.
RUNS, MOST_RUNS = 100, 1000


async def run_description(runs: RunReader, run_id: str) -> dict[str, Any] | None:
    """A run with its tasks, each by its latest attempt, and its stages; None when there is none that may be seen."""
    view = await runs.get(run_id)
    if view is None:
        return None
    runs = runs.within(view.account, view.site)  # another account may have one with this id
    tasks = tasks_of(await runs.attempts(run_id))
    stages = await runs.stages(run_id)
    return {
        "run": asdict(view),
        "tasks": [{**asdict(latest), "attempts": count} for latest, count in tasks],
        "stages": [asdict(stage) for stage in stages],
    }


async def run_log(runs: RunReader, run_id: str, lines: int) -> str | None:
    """The last lines of a run's log, each with its time and task; None when there is no run that may be seen.

    :param lines: how many; `MOST_LINES` at most are given.
    """
    view = await runs.get(run_id)
    if view is None:
        return None
    count = min(lines, MOST_LINES)
    found = await runs.within(view.account, view.site).tail(run_id, count)
    shown = [line for attempt, record in found for line in told(attempt, record)]
    return "".join(f"{line}\n" for line in shown[max(0, len(shown) - count) :])


def told(attempt: Attempt, record: Record) -> list[str]:
    """A record as the lines of a run's log: what is said of a stage may have several."""
    before = f"{record.timestamp} {attempt.name.rpartition('.')[2] or 'task'}[{attempt.task_id[:8]}]"
    return [f"{before} {line}" for line in record.text.split("\n")]


def tasks_of(attempts: Sequence[Attempt]) -> list[tuple[Attempt, int]]:
    """The tasks that attempts, in order of start, belong to: the latest attempt of each, and how many there are."""
    known: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        known.setdefault(attempt.task_id, []).append(attempt)
    return [(of_task[-1], len(of_task)) for of_task in known.values()]
