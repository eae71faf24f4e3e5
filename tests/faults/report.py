"""The figures of a run with faults, and all that the oracle has found wrong."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from celery_livelog.records import End, Record
from tests.faults.oracle import Verdict, complete, judge, last_number
from tests.faults.site import Site, Talk
from tests.nodes import logs
from tests.nodes.waiting import wait_for

#: What a task that was killed says of itself.
_KILLED = (137, "killed by signal 9 (SIGKILL)")

#: Seconds after the worker's end within which nothing must be left.
_LEFT_SECONDS = 20.0


@dataclass
class Report:
    """Sums over all tasks. Live is what those saw who followed in another container."""

    tasks: int = 0
    printed: int = 0
    archived: int = 0
    live: Verdict = field(default_factory=Verdict)
    doubles: int = 0
    missing: int = 0
    ends: int = 0
    looks: int = 0
    longest_wait: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, site: Site, talk: Talk) -> None:
        """Judge a task that was told to stop."""
        outcome = talk.result.get(timeout=120, propagate=False)
        printed = talk.notes.done
        well = repr(outcome) == ("RuntimeError('deliberate')" if talk.fails else "42")
        self._note(talk, [] if well else [f"the task's outcome is {outcome!r}"])
        found = self._archive(site, talk, printed)
        self.ends += isinstance(found[-1], End) and found[-1].state == talk.result.state
        for follower in talk.followers:
            follower.wait(120)
            verdict = judge(follower.records, printed)
            self.live.shown += verdict.shown
            self.live.skipped += verdict.skipped
            self.doubles += verdict.doubles
            self.missing += verdict.missing
            self._note(talk, [f"live: {wrong}" for wrong in verdict.wrong])

    def add_killed(self, site: Site, talk: Talk) -> None:
        """Judge a task whose process was killed: every print that had returned is there, and one more may be."""
        found = self._archive(site, talk, talk.notes.done, killed=True)
        end = found[-1]
        right = isinstance(end, End) and end.exit_code == _KILLED[0] and _KILLED[1] in end.reason
        self.ends += right
        if not right:
            self._note(talk, [f"the end is {end!r}"])

    def end(self, site: Site) -> None:
        """Judge what is left when all is over, and stop the worker."""
        site.stop_worker()
        deadline = time.monotonic() + _LEFT_SECONDS
        wait_for(lambda: not site.left() or time.monotonic() > deadline, 2 * _LEFT_SECONDS)
        self.wrong += [f"{path} is left" for path in site.left()]
        self.looks = site.keys.looks
        self.wrong += [f"{key} was without a time to live" for key in sorted(site.keys.eternal)]

    def line(self) -> str:
        """All in short."""
        return f"{self.tasks} tasks, {self.printed} lines, {len(self.wrong)} findings"

    def __str__(self) -> str:
        rows = {
            "tasks": self.tasks,
            "lines printed": self.printed,
            "lines archived": self.archived,
            "lines shown live": self.live.shown,
            "lines skipped live": self.live.skipped,
            "doubles": self.doubles,
            "missing": self.missing,
            "right ends": self.ends,
            "looks at all keys": self.looks,
            "longest wait for an archive, seconds": f"{self.longest_wait:.1f}",
            **self.figures,
            **{f"fault: {name}": count for name, count in sorted(self.faults.items())},
            "findings": len(self.wrong),
        }
        table = [f"{name:44} {value:>12}" for name, value in rows.items()]
        return "\n".join([*table, *self.wrong[:50]])

    def _archive(self, site: Site, talk: Talk, printed: int, *, killed: bool = False) -> list[Record]:
        began = time.monotonic()
        found = logs.archived(site.project, talk.task_id)
        self.longest_wait = max(self.longest_wait, time.monotonic() - began)
        if killed and last_number(found) == printed + 1:
            printed += 1  # printed, and killed before it was noted
        verdict = complete(found, printed)
        self.tasks += 1
        self.printed += printed
        self.archived += verdict.shown
        self.doubles += verdict.doubles
        self.missing += verdict.missing + verdict.skipped
        self._note(talk, [f"archive: {wrong}" for wrong in verdict.wrong])
        return found

    def _note(self, talk: Talk, wrong: list[str]) -> None:
        for what in wrong:
            print(f"{talk.task_id}: {what}", flush=True)
            self.wrong.append(f"{talk.task_id}: {what}")
