"""What one attempt's events say of its run and its stages, as the catalog holds it. Pure.

Rules:
- a stage belongs to the innermost run that the attempt has begun and not ended, else to the attempt's own;
- a stage or run that is open when the attempt ends is ended with it, but the attempt's own run, which other tasks are
  in, too;
- progress may wait: of each stage only how it stands counts.
"""

from __future__ import annotations

from copy import copy

import msgspec
from msgspec.structs import asdict, replace

from celery_livelog.attempts import Attempt
from celery_livelog.records import (
    RunEnd,
    RunStart,
    StageComplete,
    StageError,
    StageEvent,
    StageProgress,
    StageStart,
    Trace,
)
from celery_livelog.runs import Run, RunEntry, Stage

_GREATEST = (1 << 63) - 1

#: What the catalog takes.
Known = Attempt | RunEntry | Stage


class ProjectionState(msgspec.Struct, array_like=True):
    """Where an attempt's events have led, so that another shipper can go on from there."""

    stages: list[Stage]
    highest: int
    runs: list[RunEntry]


class Projection:
    """The run and the stages of an attempt.

    :param attempt: kept up by its log; of it, only the run is looked at.
    :param run: the run that it belongs to, if that has a name.
    """

    def __init__(self, attempt: Attempt, run: Run | None) -> None:
        self._attempt = attempt
        #: What is new; of how far stages have come, see `progress`.
        self.news: list[Known] = []
        self._stages: dict[int, Stage] = {}
        self._highest = 0
        self._changed: set[int] = set()
        #: The runs that the attempt has begun and not ended, the innermost last.
        self._begun: list[RunEntry] = []
        self._own = _scope(attempt)
        self._listed = run is not None
        if run is not None:
            self.news.append(RunEntry(**asdict(run), named=True))
        elif attempt.run_id not in ("", attempt.task_id):
            self._list_run()

    def resume(self, state: ProjectionState) -> None:
        """Go on from where a shipper before this one stood."""
        self._stages = {stage.stage: stage for stage in state.stages}
        self._changed = set(self._stages)  # how far they had come, it may not have told
        self._highest, self._begun = state.highest, state.runs

    def state(self) -> ProjectionState:
        """What `resume` needs."""
        return ProjectionState([*map(copy, self._stages.values())], self._highest, [*self._begun])

    def take_news(self) -> list[Known]:
        """What is new since this was last asked."""
        news, self.news = self.news, []
        return news

    @property
    def moving(self) -> bool:
        """Whether a stage has come further than was told."""
        return bool(self._changed)

    def progress(self) -> list[Stage]:
        """The stages that have come further since this was last asked."""
        changed = [copy(self._stages[number]) for number in sorted(self._changed & self._stages.keys())]
        self._changed.clear()
        return changed

    def feed(self, event: StageEvent) -> None:
        """Take an event, after the attempt's log has."""
        if isinstance(event, Trace):
            return
        if isinstance(event, RunStart):
            self._begin(event)
        elif isinstance(event, RunEnd):
            self._end(event.run_id, event.timestamp, event.state, event.error)
        elif isinstance(event, StageStart):
            self._open(event, pending=_counted(event.pending))
        elif isinstance(event, StageProgress):
            if event.stage in self._stages or event.stage > self._highest:  # else it has ended
                self._move(event)
        elif isinstance(event, StageComplete):
            self._close(event, "complete", result=event.result)
        else:
            self._close(event, "error", error=event.error)

    def end(self, n: int) -> None:
        """The attempt has ended, with record `n`."""
        ended, reason = self._attempt.ended, self._attempt.reason
        for stage in self._stages.values():
            self.news.append(replace(stage, state="interrupted", ended=ended, updated=ended, error=reason, n=n))
        self._stages.clear()
        self._changed.clear()
        state = "FAILURE" if self._attempt.exit_code else "SUCCESS"
        for run in self._begun[::-1]:
            if _scope(run) != self._own:
                self._end(run.run_id, ended, state, reason)

    def _open(
        self, event: StageStart | StageProgress | StageComplete | StageError, pending: int | None = None
    ) -> Stage:
        run_id, account, site = _scope(self._begun[-1]) if self._begun else self._own
        stage = Stage(
            attempt=self._attempt.attempt,
            stage=event.stage,
            task_id=self._attempt.task_id,
            run_id=run_id,
            account=account,
            site=site,
            name=event.name,
            started=event.timestamp,
            pending=pending,
            updated=event.timestamp,
            n=event.n,
        )
        self._stages[event.stage] = stage
        self._highest = max(self._highest, event.stage)
        self._list_run()
        self.news.append(copy(stage))
        return stage

    def _move(self, event: StageProgress) -> None:
        stage = self._stages.get(event.stage) or self._open(event)
        stage.done, stage.total, stage.message = _counted(event.done) or 0, _counted(event.total), event.message
        stage.updated, stage.n = event.timestamp, event.n
        self._changed.add(event.stage)

    def _close(self, event: StageComplete | StageError, state: str, *, result: object = None, error: str = "") -> None:
        stage = self._stages.get(event.stage) or self._open(event)
        del self._stages[event.stage]
        self._changed.discard(event.stage)
        stage.state, stage.ended, stage.updated, stage.n = state, event.timestamp, event.timestamp, event.n
        stage.elapsed, stage.done = event.elapsed, _counted(event.processed) or 0
        stage.result, stage.error = result, error
        self.news.append(stage)

    def _begin(self, event: RunStart) -> None:
        run = msgspec.convert(event, Run, from_attributes=True)
        entry = RunEntry(**asdict(run), named=True)
        self._begun.append(entry)
        self.news.append(entry)
        if _scope(self._attempt) == self._own:
            return
        self._listed = True
        before, self._own = self._own, _scope(self._attempt)  # the attempt has joined it, with all that is open
        self.news.append(copy(self._attempt))
        for stage in self._stages.values():
            if _scope(stage) == before:
                stage.run_id, stage.account, stage.site = self._own
                self._changed.add(stage.stage)

    def _end(self, run_id: str, ended: str, state: str, error: str) -> None:
        """Of a run whose beginning was skipped, nobody knows whose it is: then it is what its tasks are."""
        for run in reversed(self._begun):
            if run.run_id == run_id:
                self._begun.remove(run)
                self.news.append(replace(run, ended=ended, state=state, error=error))
                return

    def _list_run(self) -> None:
        """Have a run without a name listed: its tasks are more than one, or it has a stage."""
        if not self._listed and self._own[0]:
            self._listed = True
            self.news.append(RunEntry(run_id=self._own[0], started=self._attempt.started))


def _counted(count: int | None) -> int | None:
    """A count of users as databases take it."""
    return None if count is None else max(-_GREATEST, min(count, _GREATEST))


def _scope(known: Known) -> tuple[str, str, str]:
    """What tells a run from all others: its id, and whose it is."""
    return known.run_id, known.account, known.site
