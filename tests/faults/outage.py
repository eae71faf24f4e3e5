"""Redis hangs for long under load: tasks take the time they always take, and the archive has every line."""

from __future__ import annotations

import signal
import statistics
import time

from tests.faults.report import Report
from tests.faults.site import Site
from tests.nodes.project import Project
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

#: Lines of a task whose time is taken.
_LINES = 2000


def compare(site: Site, seconds: float) -> Report:
    """Hang the Redis of one worker for so many seconds; tasks of it and of one whose Redis is well take turns."""
    site.start_worker(concurrency=2)
    well = _healthy(site)
    report = Report()
    talk = site.talk()
    wait_for(lambda: talk.followers[0].n)
    _times(site.project, well, 5.0)  # warm
    before = _ratio(report, "before, Redis well / well", _times(site.project, well, seconds / 2))
    site.live.send(signal.SIGSTOP)
    try:
        during = _ratio(report, "meanwhile, Redis hung / well", _times(site.project, well, seconds))
    finally:
        site.live.send(signal.SIGCONT)
    report.figures["what the outage adds"] = f"{during / before - 1:+.2%}"
    healed, printed = time.monotonic(), talk.notes.done
    wait_for(lambda: talk.followers[0].n > printed, 60, "a live view again")
    report.figures["seconds until it is live again"] = f"{time.monotonic() - healed:.2f}"
    talk.notes.stop()
    report.add(site, talk)
    report.end(site)
    return report


def _healthy(site: Site) -> Project:
    """The project of another worker, whose Redis is the broker's."""
    project = Project(site.directory / "healthy", site.broker.url)
    project.configure(livelog_redis_url=site.broker.url, task_default_queue="healthy")
    site.launch(Worker(project, concurrency=1, name="healthy", args=["-Q", "healthy"]))
    return project


def _times(project: Project, other: Project, seconds: float) -> tuple[list[float], list[float]]:
    """The seconds that each task takes, those of both projects in turn."""
    end = time.monotonic() + seconds
    times: tuple[list[float], list[float]] = ([], [])
    while time.monotonic() < end:
        for of, taken in zip((project, other), times, strict=True):
            taken.append(of.run("print_and_work", _LINES).result)
    return times


def _ratio(report: Report, name: str, times: tuple[list[float], list[float]]) -> float:
    """How many times as long the tasks of the first took as those next to them: the median of all pairs."""
    ratio = statistics.median(first / second for first, second in zip(*times, strict=True))
    report.figures[name] = f"{ratio:.4f}"
    report.figures[f"{name}: pairs, median seconds"] = f"{len(times[0])}, {statistics.median(times[0]):.4f}"
    return ratio
