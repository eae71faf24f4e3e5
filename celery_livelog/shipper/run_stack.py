"""The runs with a name in which an attempt makes its records: its own, and those that it begins within that. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from celery_livelog.records import RunEnd, RunStart, StageEvent
from celery_livelog.runs import Run


class RunStack:
    """See above.

    :param own: the run that the attempt belongs to; without one, the first that it begins is.
    :param within: the runs that it has begun within that and not left.
    """

    def __init__(self, own: Run | None, within: Iterable[Run] = ()) -> None:
        self.own = own
        self._within = list(within)
        self._left: Run | None = None

    @property
    def innermost(self) -> Run | None:
        """The run in which the records that came last were made. The end of a run is made in it."""
        return self._within[-1] if self._within else self.own

    @property
    def within(self) -> list[Run]:
        """What the next one needs beside `own`."""
        return [run for run in self._within if run is not self._left]

    def go_on(self) -> None:
        """Further records are made: what was left is behind."""
        if self._left is not None:
            self._within.remove(self._left)
            self._left = None

    def follow(self, event: StageEvent) -> bool:
        """Take an event; give whether the attempt has found its own run by it."""
        if isinstance(event, RunEnd):
            self._left = next((run for run in reversed(self._within) if run.run_id == event.run_id), None)
        elif isinstance(event, RunStart):
            run = msgspec.convert(event, Run, from_attributes=True)
            if self.own is not None:
                self._within.append(run)
            else:
                self.own = run
                return True
        return False
