"""One attempt on its way from frames to numbered records. Pure: the same frames always give the same records.

Whatever comes out, of lines as of the attempt itself, has gone through its `Redaction`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.endings import Ending
from celery_livelog.frames import END, EVENT, GAP, LOG, MASK, RAW, STREAMS, TEXT, Frame
from celery_livelog.lines import LineSplitter
from celery_livelog.records import End, Gap, Line, Partial, Record, RunEnd, RunStart, StageEvent, Trace, utc
from celery_livelog.redact import Redactor
from celery_livelog.runs import Run
from celery_livelog.shipper.projection import Projection, ProjectionState
from celery_livelog.shipper.redaction import Redaction, Redactions, RedactionState

_RAW = -1  # the channel of raw bytes, apart from those of threads
#: The place of log records, each of which is whole.
_LOGGED = (-1, -1)
#: Characters of an exception that the end of a log carries; the log itself has the traceback.
_REASON_CHARACTERS = 500


class LogState(msgspec.Struct, array_like=True):
    """Where an attempt's log stands, so that another shipper can go on from there."""

    attempt: Attempt
    requeued: bool
    n: int
    stages: list[int]
    unfinished: list[tuple[tuple[int, int], tuple[bytes, bool, bool]]]
    redaction: RedactionState
    run: Run | None
    projection: ProjectionState | None = None
    runs: list[Run] = []


class AttemptLog:
    """Numbers what an attempt wrote.

    :param attempt: what its BEGIN frame said; `lines`, `bytes`, `skipped` and the ending are kept up here.
    :param redaction: hides what is secret in it.
    :param run: the run that somebody has begun and that it belongs to.
    :param requeued: whether Celery gives the task to the broker again when its process is killed.
    """

    def __init__(
        self,
        attempt: Attempt,
        redaction: Redaction | None = None,
        *,
        run: Run | None = None,
        requeued: bool = False,
    ) -> None:
        self._redaction = redaction or Redaction(Redactor())
        self._redaction.attempt(attempt)
        self.attempt = attempt
        #: The run with a name that it belongs to, from before or begun by itself.
        self.run = None if run is None else self._redaction.run(run)
        self.requeued = requeued
        self.n = 0
        self._runs: list[Run] = []  # that the task has begun within it and not left
        self._left: Run | None = None
        self._splitters: dict[tuple[int, int], LineSplitter] = {}
        self._stages: list[int] = []
        #: What its events say of its run and stages.
        self.projection = Projection(attempt, self.run)

    @classmethod
    def resume(cls, state: LogState, redactions: Redactions) -> AttemptLog:
        """Go on from where a shipper before this one stood."""
        log = cls(state.attempt, redactions.resume(state.redaction), run=state.run, requeued=state.requeued)
        log.n, log._stages, log._runs = state.n, state.stages, state.runs
        if state.projection is not None:
            log.projection.resume(state.projection)
        for place, held in state.unfinished:
            log._splitters[place] = LineSplitter()
            log._splitters[place].resume(held)
        return log

    def state(self) -> LogState:
        """What `resume` needs."""
        unfinished = [(place, splitter.held) for place, splitter in self._splitters.items()]
        redaction = self._redaction.state()
        runs = [run for run in self._runs if run is not self._left]
        return LogState(
            self.attempt,
            self.requeued,
            self.n,
            self._stages,
            unfinished,
            redaction,
            self.run,
            self.projection.state(),
            runs,
        )

    @property
    def innermost_run(self) -> Run | None:
        """The run with a name in which the records that came last were made: its own, or one begun within that."""
        return self._runs[-1] if self._runs else self.run

    @property
    def ended(self) -> bool:
        """Whether its last record is out."""
        return not self.attempt.running

    @property
    def silent(self) -> bool:
        """Whether nothing was printed so far."""
        return self.n == 0

    def feed(self, frame: Frame) -> list[Record]:
        """The records that a frame completes."""
        if self._left is not None:
            self._runs.remove(self._left)
            self._left = None
        if self.ended:
            return []
        if frame.kind in (TEXT, RAW):
            place = frame.stream, _RAW if frame.kind == RAW else frame.channel
            splitter = self._splitters.get(place)
            if splitter is None:
                splitter = self._splitters[place] = LineSplitter()
            self.attempt.bytes += len(frame.payload)
            return self._lines(place, splitter.feed(frame.payload), STREAMS[frame.stream], utc(frame.time))
        if frame.kind == LOG:
            return self._log(frame)
        if frame.kind == EVENT:
            return [self._event(frame.payload, utc(frame.time))]
        if frame.kind == MASK:
            self._redaction.hide(frame.payload)
            self._redaction.attempt(self.attempt)
        if frame.kind == GAP:
            said = msgspec.json.decode(frame.payload)
            return [self.gap(said["lines"], said["reason"], frame.time)]
        if frame.kind == END:
            return self.end(msgspec.json.decode(frame.payload, type=Ending), frame.time)
        return []

    def gap(self, skipped: int, reason: str, time: int) -> Gap:
        """Number records that were printed but are not here."""
        first, self.n = self.n + 1, self.n + skipped
        self.attempt.skipped += skipped
        return Gap(n=self.n, timestamp=utc(time), skipped=skipped, first=first, last=self.n, reason=reason)

    def end(self, ending: Ending, time: int) -> list[Record]:
        """Close the attempt: its unfinished lines and its last record, but of a first try that went well in silence."""
        if self.ended:
            return []
        state, exit_code, reason = ending.state, ending.exit_code, ending.reason
        timestamp = utc(time)
        records: list[Record] = []
        for place, splitter in self._splitters.items():
            records += self._lines(place, splitter.close(), STREAMS[place[0]], timestamp)
        self._splitters.clear()
        attempt, reason = self.attempt, self._redaction.reason(reason, _REASON_CHARACTERS)
        attempt.state, attempt.exit_code, attempt.reason, attempt.ended = state, exit_code, reason, timestamp
        if not self.silent or state != "SUCCESS" or attempt.retries or attempt.redelivered:
            self.n += 1
            records.append(End(n=self.n, timestamp=timestamp, state=state, exit_code=exit_code, reason=reason))
        self.projection.end(self.n)
        return records

    def previews(self, time: int) -> list[Partial]:
        """The unfinished lines that have changed since they were last asked for."""
        return [
            Partial(
                n=self.n + 1,
                timestamp=utc(time),
                stream=STREAMS[place[0]],
                line=self._redaction.preview(place, splitter.preview()),
                redrawn=splitter.redrawn,
            )
            for place, splitter in self._splitters.items()
            if splitter.changed
        ]

    @property
    def unfinished(self) -> bool:
        """Whether there is an unfinished line that has changed."""
        return any(splitter.changed for splitter in self._splitters.values())

    def _lines(
        self,
        place: tuple[int, int],
        lines: list[tuple[str, bool]],
        stream: str,
        timestamp: str,
        level: str | None = None,
        logger: str | None = None,
    ) -> list[Record]:
        first = self.n + 1
        self.n += len(lines)
        stage = self._stages[-1] if self._stages else None
        self.attempt.lines += sum(not more for _, more in lines)
        return [
            Line(n=n, timestamp=timestamp, stream=stream, line=line, level=level, logger=logger, stage=stage, more=more)
            for n, (line, more) in enumerate(self._redaction.lines(place, lines), first)
        ]

    def _log(self, frame: Frame) -> list[Record]:
        level, logger, message = frame.payload.split(b"\0", 2)
        self.attempt.bytes += len(message) + 1
        lines = LineSplitter().feed(message if message.endswith(b"\n") else message + b"\n")
        name = self._redaction.text(logger.decode("utf-8", "backslashreplace"))
        return self._lines(_LOGGED, lines, "log", utc(frame.time), level.decode("utf-8", "backslashreplace"), name)

    def _event(self, payload: bytes, timestamp: str) -> StageEvent:
        self.n += 1
        try:
            event = self._redaction.event(msgspec.json.decode(payload, type=dict[str, Any]))
            self._enter_or_leave(event["type"], event.get("stage", 0))
            fields = {**event, "n": self.n, "timestamp": timestamp}
            record: StageEvent = msgspec.convert(fields, StageEvent, strict=False)
            if isinstance(record, RunStart):
                self._join(record)
            elif isinstance(record, RunEnd):
                self._left = next((run for run in reversed(self._runs) if run.run_id == record.run_id), None)
            self.projection.feed(record)
        except (msgspec.MsgspecError, KeyError, RecursionError):  # values of users
            text = self._redaction.text(payload.decode("utf-8", "backslashreplace"))
            record = Trace(n=self.n, timestamp=timestamp, event="unreadable", data=text)
        return record

    def _join(self, begun: RunStart) -> None:
        """The task has begun a run, and belongs to it if it belongs to none with a name."""
        run = msgspec.convert(begun, Run, from_attributes=True)
        if self.run is not None:
            self._runs.append(run)
            return
        self.run = run
        self.attempt.run_id, self.attempt.account, self.attempt.site = begun.run_id, begun.account, begun.site

    def _enter_or_leave(self, kind: str, stage: int) -> None:
        if kind == "stage_start":
            self._stages.append(stage)
        elif kind in ("stage_complete", "stage_error") and stage in self._stages:
            self._stages.remove(stage)
