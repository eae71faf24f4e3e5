"""What stages cost a task: to enter and leave one, and to say how far it has come."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Event
from time import thread_time

from benchmarks.tables import show
from celery_livelog.iteration import progress
from celery_livelog.records import StageProgress
from celery_livelog.stages import stage
from celery_livelog.writer import current
from tests.unit.journals import begin, open_journal, records

_ROUNDS, _CALLS = 9, 10_000
_PACED_SECONDS = 1.0


def _contexts() -> None:
    for _ in range(_CALLS):
        with stage("Fetch", pending=120):
            pass


def _advances() -> None:
    with stage("Fetch", pending=_CALLS) as step:
        for _ in range(_CALLS):
            step.advance()


def _progresses() -> None:
    with stage("Fetch", pending=_CALLS) as step:
        for done in range(_CALLS):
            step.progress(done, _CALLS, "pages")


def _loop() -> None:
    for _ in progress(range(_CALLS), "Fetch"):
        pass


def _microseconds(work: Callable[[], None]) -> float:
    started = thread_time()
    work()
    return (thread_time() - started) / _CALLS * 1e6


def _paced(directory: Path) -> tuple[float, int]:
    """Microseconds for a call of 10,000 that are spread over a second, and the events that are stored of them."""
    took, pause = 0.0, Event()
    with stage("Paced", pending=_CALLS) as step:
        for _ in range(100):
            started = thread_time()
            for _ in range(_CALLS // 100):
                step.advance()
            took += thread_time() - started
            pause.wait(_PACED_SECONDS / 100)
    stored = [record for record in records(directory) if isinstance(record, StageProgress) and record.name == "Paced"]
    return took / _CALLS * 1e6, len(stored)


def main() -> None:
    """Measure in this process, with a journal on the disk and no shipper."""
    kinds = {
        "with stage(…): pass": _contexts,
        "stage.advance()": _advances,
        "stage.progress(done, total, message)": _progresses,
        "an item of progress(items)": _loop,
    }
    with tempfile.TemporaryDirectory() as found:
        directory = Path(found)
        journal = open_journal(directory)
        current.set(begin(journal))
        paced, stored = _paced(directory)
        for work in kinds.values():
            work()  # warms up
        rows: list[list[object]] = [
            [name, statistics.median(_microseconds(work) for _ in range(_ROUNDS))] for name, work in kinds.items()
        ]
        journal.close()
    rows.append([f"stage.advance(), {_CALLS} in a second; {stored} stored", paced])
    show(
        f"CPU time, system calls included; {_CALLS} calls; medians of {_ROUNDS} rounds", "stages", ["call", "µs"], rows
    )


if __name__ == "__main__":
    main()
