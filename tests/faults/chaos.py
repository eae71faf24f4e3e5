"""Random faults under load: ``python -m tests.faults.chaos --minutes 10 --seed 7``, ``--kills 200``, ``--outage 60``.

Prints its figures; ends with 1 when the oracle has found anything.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults import killing, outage
from tests.faults.course import still_talking
from tests.faults.matrix import EVERY, Fault
from tests.faults.report import Report
from tests.faults.site import Site, Talk
from tests.nodes.waiting import wait_for

#: Tasks at once, and seconds between lines of each: 4000 lines a second in all.
_TALKS, _PAUSE = 3, 0.015
_LONGEST_FAULT, _LONGEST_CALM, _LONGEST_TALK = 8.0, 3.0, 25.0


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long faults come and go")
    parser.add_argument("--seed", type=int, default=None, help="the same faults in the same order")
    parser.add_argument("--kills", type=int, default=0, help="instead, so many SIGKILLs of tasks' processes")
    parser.add_argument("--outage", type=float, default=0.0, help="instead, so many seconds of a Redis that hangs")
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.randrange(1 << 31)
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    run: Callable[[Site], Report] = lambda site: storm(site, 60 * chosen.minutes, chance)  # noqa: E731
    if chosen.kills:
        run = lambda site: killing.kill(site, chosen.kills, chance)  # noqa: E731
    elif chosen.outage:
        run = lambda site: outage.compare(site, chosen.outage)  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        site = Site(Path(directory))
        try:
            report = run(site)
        finally:
            site.close()
    print(report)
    sys.exit(bool(report.wrong))


def storm(site: Site, seconds: float, chance: random.Random) -> Report:
    """Let faults come and go while tasks talk."""
    site.start_worker(concurrency=_TALKS + 1)
    report = Report()
    talks: dict[Talk, float] = {}
    faults: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _replace_finished(site, talks, report, chance)
        fault = chance.choice(EVERY)
        faults[fault.name] += 1
        _weather(site, fault, talks, chance)
        print(f"{max(0, end - time.monotonic()):4.0f} s left: {fault.name}; {report.line()}", flush=True)
    for talk in talks:
        talk.notes.stop()
    for talk in talks:
        report.add(site, talk)
    report.faults = dict(faults)
    report.end(site)
    return report


def _replace_finished(site: Site, talks: dict[Talk, float], report: Report, chance: random.Random) -> None:
    for talk, until in list(talks.items()):
        if time.monotonic() > until:
            del talks[talk]
            talk.notes.stop()
            report.add(site, talk)
    while len(talks) < _TALKS:
        talk = site.talk(fail=chance.random() < 0.3, pause=_PAUSE)
        talks[talk] = time.monotonic() + chance.uniform(1, _LONGEST_TALK)


def _weather(site: Site, fault: Fault, talks: dict[Talk, float], chance: random.Random) -> None:
    """A fault for a while, then none for a while; tasks print on all the time."""
    wait_for(lambda: all(talk.notes.done for talk in talks))
    with fault.inject(site):
        still_talking(list(talks), chance.uniform(0, _LONGEST_FAULT))
    still_talking(list(talks), chance.uniform(0, _LONGEST_CALM))


if __name__ == "__main__":
    main()
