"""Kills tasks' processes at random instants while they print: what had returned is kept, and the log says how."""

from __future__ import annotations

import os
import random
import signal

from tests.faults.course import still_talking
from tests.faults.report import Report
from tests.faults.site import Site, Talk
from tests.nodes.waiting import wait_for

#: Processes of the worker, and seconds between 20 lines of each.
_PROCESSES, _PAUSE = 6, 0.002
#: Seconds that a task prints at most before it is killed.
_LONGEST_LIFE = 0.5


def kill(site: Site, kills: int, chance: random.Random) -> Report:
    """Kill so many, and judge each."""
    site.start_worker(concurrency=_PROCESSES)
    report = Report()
    killed: list[Talk] = []
    while len(killed) < kills:
        talks = [site.talk(pause=_PAUSE, follow=False) for _ in range(min(_PROCESSES, kills - len(killed)))]
        wait_for(lambda talks=talks: all(talk.notes.done for talk in talks), 60, "tasks that print")  # type: ignore[misc]
        for talk in chance.sample(talks, len(talks)):
            still_talking([talk], chance.uniform(0, _LONGEST_LIFE / _PROCESSES))
            os.kill(talk.notes.pid, signal.SIGKILL)
        killed += talks
        print(f"{len(killed)} of {kills} killed", flush=True)
    for talk in killed:
        report.add_killed(site, talk)
    report.end(site)
    return report
