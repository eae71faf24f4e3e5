"""The runs that a task begins while it is in one: what it says then belongs to the innermost. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from celery_livelog.records import RunEnd, RunStart, StageEvent
from celery_livelog.runs import Run


class InnerRuns:
    """Those that are not left, the innermost last.

    :param begun: with which to go on.
    """

    def __init__(self, begun: Iterable[Run] = ()) -> None:
        self._begun = list(begun)
        self._left: Run | None = None

    @property
    def innermost(self) -> Run | None:
        """The run that the last event was in; its end is in it still."""
        return self._begun[-1] if self._begun else None

    def go_on(self) -> None:
        """What comes now is in no run that was left before."""
        if self._left is not None:
            self._begun.remove(self._left)
            self._left = None

    def feed(self, event: StageEvent) -> None:
        """Take note of an event."""
        if isinstance(event, RunStart):
            self._begun.append(msgspec.convert(event, Run, from_attributes=True))
        elif isinstance(event, RunEnd):
            self._left = next((run for run in reversed(self._begun) if run.run_id == event.run_id), None)

    def state(self) -> list[Run]:
        """What another shipper goes on with."""
        return [run for run in self._begun if run is not self._left]
