"""One attempt on its way from frames to numbered records. Pure: the same frames always give the same records.

Whatever comes out, of lines as of the attempt itself, has gone through its `Redaction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.endings import Ending
from celery_livelog.frames import END, EVENT, GAP, LOG, MASK, RAW, TEXT, Frame
from celery_livelog.records import Partial, Record, RunStart, StageEvent, utc
from celery_livelog.redact import Redactor
from celery_livelog.runs import Run
from celery_livelog.shipper.inner_runs import InnerRuns
from celery_livelog.shipper.log_state import LogState
from celery_livelog.shipper.marked import MarkedLines, MarkedState
from celery_livelog.shipper.markers import Markers
from celery_livelog.shipper.numbering import Numbering
from celery_livelog.shipper.projection import Projection
from celery_livelog.shipper.redaction import Redaction, Redactions
from celery_livelog.shipper.splitting import RAW_CHANNEL, Lines, Place, Splitting
from celery_livelog.shipper.stages import Stages


class AttemptLog:
    """Splits, numbers and closes what an attempt wrote.

    :param attempt: what its BEGIN frame said; `lines`, `bytes`, `skipped` and the ending are kept up here.
    :param redaction: hides what is secret in it.
    :param run: the run that somebody has begun and that it belongs to.
    :param requeued: whether Celery gives the task to the broker again when its process is killed.
    :param markers: the dialects of the markers that make stages.
    """

    def __init__(
        self,
        attempt: Attempt,
        redaction: Redaction | None = None,
        *,
        run: Run | None = None,
        requeued: bool = False,
        markers: Sequence[str] = (),
    ) -> None:
        self._redaction = redaction or Redaction(Redactor())
        self._numbers = Numbering(attempt, self._redaction)
        self.attempt = attempt
        #: The run with a name that it belongs to, from before or begun by itself.
        self.run = None if run is None else self._redaction.run(run)
        self.requeued = requeued
        #: What its events say of its run and stages.
        self.projection = Projection(attempt, self.run)
        self._inner = InnerRuns()
        self._begin(markers)

    @classmethod
    def resume(cls, state: LogState, redactions: Redactions, markers: Sequence[str] = ()) -> AttemptLog:
        """Go on from where a shipper before this one stood."""
        log = cls(state.attempt, redactions.resume(state.redaction), run=state.run, requeued=state.requeued)
        log._numbers.n = state.n
        log._begin(markers, state)
        log._inner = InnerRuns(state.inner)
        if state.projection is not None:
            log.projection.resume(state.projection)
        return log

    def _begin(self, dialects: Sequence[str], state: LogState | None = None) -> None:
        """Begin to split and to follow stages, or go on from a state."""
        markers = Markers(dialects)
        self._stages = Stages(marked=bool(dialects), state=state.stages if state else None)
        marked = MarkedLines(markers, self._stages, state.marked if state else None)
        self._marked = marked if dialects else None
        self._splitting = Splitting(markers.keeps, state.unfinished if state else None)

    def state(self) -> LogState:
        """What `resume` needs."""
        marked = self._marked.state() if self._marked is not None else MarkedState()
        stages, unfinished, redaction = self._stages.state, self._splitting.state(), self._redaction.state()
        projection = self.projection.state()
        known = self.attempt, self.requeued, self._numbers.n
        return LogState(*known, stages, marked, unfinished, redaction, self.run, projection, self._inner.state())

    @property
    def innermost_run(self) -> Run | None:
        """The run with a name in which the records that came last were made: its own, or one begun within that."""
        return self._inner.innermost or self.run

    @property
    def ended(self) -> bool:
        """Whether its last record is out."""
        return not self.attempt.running

    @property
    def silent(self) -> bool:
        """Whether nothing was printed so far."""
        return self._numbers.n == 0

    def feed(self, frame: Frame) -> list[Record]:
        """The records that a frame completes."""
        self._inner.go_on()
        if self.ended:
            return []
        if frame.kind in (TEXT, RAW):
            return self._output(frame)
        if frame.kind == LOG:
            return self._numbers.logged(frame.payload, utc(frame.time), self._stages.of(frame.stage))
        if frame.kind == EVENT:
            return self._event(frame.payload, frame.time)
        if frame.kind == MASK:
            self._numbers.hide(frame.payload)
        if frame.kind == GAP:
            return [self._numbers.gap(frame.payload, utc(frame.time))]
        if frame.kind == END:
            return self.end(msgspec.json.decode(frame.payload, type=Ending), frame.time)
        return []

    def end(self, ending: Ending, time: int) -> list[Record]:
        """Close the attempt: its unfinished lines, what markers have left open, and its last record."""
        if self.ended:
            return []
        records: list[Record] = []
        for place, lines, stage in self._splitting.close():
            records += self._lines(place, lines, time, stage)
        records += [self._record(event, utc(time)) for event in self._stages.finish(ending, time)]
        records += self._numbers.end(ending, time)
        self.projection.end(self._numbers.n)
        return records

    def previews(self, time: int) -> list[Partial]:
        """The unfinished lines that have changed since they were last asked for."""
        found = []
        for place, line, redrawn in self._splitting.changed():
            shown = line if self._marked is None else self._marked.preview(line)
            found.append(self._numbers.partial(place, shown, utc(time), redrawn=redrawn))
        return found

    @property
    def unfinished(self) -> bool:
        """Whether there is an unfinished line that has changed."""
        return self._splitting.unfinished

    def _output(self, frame: Frame) -> list[Record]:
        raw = frame.kind == RAW
        place = frame.stream, RAW_CHANNEL if raw else frame.channel
        stage = self._stages.latest if raw else frame.stage
        self.attempt.bytes += len(frame.payload)
        return self._lines(place, self._splitting.feed(place, frame.payload, stage), frame.time, stage)

    def _lines(self, place: Place, lines: Lines, time: int, stage: int) -> list[Record]:
        """Printed lines.

        :param stage: that of the task's code in which they were printed, by its number there.
        """
        timestamp = utc(time)
        if self._marked is None:
            return self._numbers.lines(place, lines, timestamp, stage or None)
        records: list[Record] = []
        for found in self._marked.feed(place, lines, stage, time):
            if isinstance(found, bytes):
                self._numbers.hide(found)
            elif isinstance(found, dict):
                records.append(self._record(found, timestamp))
            else:
                line = [(found.text, found.more)]
                records += self._numbers.lines(place, line, timestamp, found.stage, found.level)
        return records

    def _event(self, payload: bytes, time: int) -> list[Record]:
        timestamp = utc(time)
        records: list[Record] = []
        try:
            event = msgspec.json.decode(payload, type=dict[str, Any])
            records += [self._record(ended, timestamp) for ended in self._stages.follow(event, time)]
            records.append(self._record(event, timestamp))
        except (msgspec.MsgspecError, KeyError, RecursionError):  # values of users
            return [*records, self._numbers.unreadable(payload, timestamp)]
        return records

    def _record(self, event: dict[str, Any], timestamp: str) -> StageEvent:
        """Number an event and follow it; see `Numbering.event`."""
        record = self._numbers.event(event, timestamp)
        if isinstance(record, RunStart) and self.run is None:
            self._join(record)
        else:
            self._inner.feed(record)
        self.projection.feed(record)
        return record

    def _join(self, begun: RunStart) -> None:
        """The task has begun a run, and belongs to none with a name."""
        self.run = msgspec.convert(begun, Run, from_attributes=True)
        self.attempt.run_id, self.attempt.account, self.attempt.site = begun.run_id, begun.account, begun.site
