"""Redis hangs for long under load: tasks take the time they always take, and the archive has every line."""

from __future__ import annotations

import signal
import statistics
import time

from tests.faults.report import Report
from tests.faults.site import Site
from tests.nodes.waiting import wait_for

#: Lines of a task whose time is taken.
_LINES = 2000


def compare(site: Site, seconds: float) -> Report:
    """Take the times of tasks while Redis is well, hangs for so many seconds, and is well again."""
    site.start_worker(concurrency=2)
    report = Report()
    talk = site.talk()
    wait_for(lambda: talk.followers[0].n)
    _times(site, 3.0)  # warm
    well = _times(site, seconds / 2)
    site.live.send(signal.SIGSTOP)
    try:
        hung = _times(site, seconds)
    finally:
        site.live.send(signal.SIGCONT)
    healed, printed = time.monotonic(), talk.notes.done
    wait_for(lambda: talk.followers[0].n > printed, 60, "a live view again")
    report.figures["seconds until it is live again"] = f"{time.monotonic() - healed:.2f}"
    well += _times(site, seconds / 2)
    talk.notes.stop()
    report.add(site, talk)
    for name, times in (("Redis well", well), ("Redis hung", hung)):
        report.figures[f"{len(times)} tasks, {name}, median seconds"] = f"{statistics.median(times):.4f}"
    report.figures["hung / well"] = f"{statistics.median(hung) / statistics.median(well):.4f}"
    report.end(site)
    return report


def _times(site: Site, seconds: float) -> list[float]:
    """The time that each of the tasks takes that run one after another."""
    end = time.monotonic() + seconds
    times = []
    while time.monotonic() < end:
        times.append(site.project.run("print_and_work", _LINES).result)
    return times
