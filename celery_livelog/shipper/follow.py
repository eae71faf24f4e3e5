"""Follows the journal of one process, with its raw files, through to numbered records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import time_ns
from typing import NamedTuple

import msgspec

from celery_livelog import raw_places
from celery_livelog.attempts import Attempt
from celery_livelog.endings import ABORTED, Ending, Word
from celery_livelog.errors import complain
from celery_livelog.frames import BEGIN, END, RAW, WORD, Frame
from celery_livelog.records import Record
from celery_livelog.redact import Redactor
from celery_livelog.runs import Run
from celery_livelog.shipper.attempt import AttemptLog
from celery_livelog.shipper.closing import Closing
from celery_livelog.shipper.copies import NEW
from celery_livelog.shipper.log_state import LogState
from celery_livelog.shipper.memory import resident
from celery_livelog.shipper.parts import Part, Parts
from celery_livelog.shipper.program import Program
from celery_livelog.shipper.raw import RawFiles, RawState
from celery_livelog.shipper.redaction import Redactions

#: Sizes of raw files up to which everything was taken before.
_NOTHING_NEW = (0, 0)


class _Begin(msgspec.Struct):
    """What a BEGIN frame says."""

    attempt: Attempt
    raw: dict[str, str] | None = None
    run: Run | None = None
    requeued: bool = False
    program: bool = False
    mask: list[bytes] = []
    redact: list[str] | None = []


class _State(msgspec.Struct, array_like=True):
    """How things stand between two parts of a journal: the attempts that run, by slot; the innermost one last."""

    files: RawState
    running: list[tuple[int, LogState | None]]


class Shown(NamedTuple):
    """What one frame led to: records of an attempt, raw bytes for the console, or both.

    `part`: a part of the journal begins here, that of this number, and the attempt goes on in it; see `Parts.secured`.
    """

    log: AttemptLog | None
    records: list[Record]
    stream: int = 0
    raw: bytes = b""
    part: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_State).decode


class Follower:
    """One process that writes, or wrote, a journal.

    :param process: its name in the spool directory.
    :param alive: whether the process lives.
    :param full: whether the spool's budget is spent.
    :param closing: takes the attempts whose end others must tell.
    :param redactions: hide what is secret in what the process prints.
    :param markers: the dialects of the markers that make stages.
    """

    def __init__(
        self,
        directory: Path,
        process: str,
        alive: Callable[[], bool],
        full: Callable[[], bool],
        closing: Closing,
        redactions: Redactions | None = None,
        markers: Sequence[str] = (),
    ) -> None:
        self._markers = markers
        self._redactions = redactions or Redactions(Redactor())
        self._directory = directory
        self._process = process
        self._alive = alive
        self._closing = closing
        self._memory = 0
        self._slots: dict[int, AttemptLog | None] = {}
        self._running: list[int] = []
        self.parts = Parts(directory, process, full)
        self.files = RawFiles()
        self.program = Program(self.files, alive, raw_places.shown_path(directory, process))
        self.finished = False
        self._resumed: list[AttemptLog] = []
        self._resume()

    @property
    def logs(self) -> list[AttemptLog]:
        """The logs of the attempts that run."""
        return [log for log in self._slots.values() if log is not None]

    def read(self) -> Iterator[Shown]:
        """All that is new."""
        alive = self._alive() or self.program.goes_on  # asked first: what was written before the end is there now
        while self._resumed:
            yield Shown(self._resumed.pop(), [])
        yield from self._read_parts(alive=alive)
        for stream, data in self.files.left_behind():
            yield Shown(None, [], stream, data)
        self.parts.settle_copies()
        if not alive and not self.finished:
            self._bury()

    def weigh(self) -> None:
        """Look how much memory the process has; a kill may have to do with it."""
        self._memory = resident(self._process.partition("-")[0]) or self._memory

    def close(self, *, delete: bool) -> None:
        """Let go of all files; `delete` when nobody needs them any more."""
        self.files.close(delete=delete)
        self.program.close(delete=delete)
        if delete:  # before the journals, which alone lead to them
            raw_places.delete_raw_files(self._directory, self._process)
        self.parts.close(delete=delete)
        if delete:
            (self._directory / f"{self._process}.lock").unlink(missing_ok=True)

    def _read_parts(self, *, alive: bool) -> Iterator[Shown]:
        while True:
            part = self.parts.current
            # Raw sizes first, the journal second: bytes up to these sizes come before any record not yet there.
            files, sizes = self.files.current, self.files.sizes()
            there_is_more = self.parts.there_is_more(alive=alive)  # looked before reading on: then this one is complete
            while frames := part.reader.read(complete=there_is_more or not alive):
                for at, frame in frames:
                    yield from self._raw(part, (frame.raw_out, frame.raw_err), at, frame.time)
                    if frame.kind == BEGIN:
                        yield from self._begin(part, frame)
                    else:
                        yield from self._record(frame)
            if not alive:
                files, sizes = self.files.current, self.files.sizes()  # no record comes any more: these are the last
            if there_is_more or files is not self.files.current:
                sizes = _NOTHING_NEW
            yield from self._raw(part, sizes, part.reader.offset, time_ns())
            if not there_is_more:
                return
            yield from self._advance()

    def _advance(self) -> Iterator[Shown]:
        """Go on with the next part of the journal."""
        running = [(slot, self._slots[slot]) for slot in self._running]
        carried = [log for _, log in running if log is not None]
        held = [(slot, None if log is None else log.state()) for slot, log in running]
        number = self.parts.advance(_encode(_State(self.files.state(), held)), [log.attempt.attempt for log in carried])
        for log in carried:
            yield Shown(log, [], part=number)

    def _resume(self) -> None:
        """Go on from the state in which the first part begins, if others are gone before it."""
        if not self.parts.state:
            return
        try:
            state = _decode(self.parts.state)
        except msgspec.MsgspecError as error:
            complain(f"logs in the middle of which {self.parts.current.path} begins are cut short", error)
            return
        self.files.resume(state.files)
        for slot, held in state.running:
            self._running.append(slot)
            self._slots[slot] = None
            if held is not None and not self.parts.is_done(held.attempt.attempt):
                self._slots[slot] = log = AttemptLog.resume(held, self._redactions, self._markers)
                self.parts.current.attempts.add(log.attempt.attempt)
                self._resumed.append(log)

    def _begin(self, part: Part, frame: Frame) -> Iterator[Shown]:
        begin = msgspec.json.decode(frame.payload, type=_Begin)
        if begin.raw is not None:
            shown = self.program.begin() if begin.program else None
            self.files.switch(begin.raw, (frame.raw_out, frame.raw_err), shown)
        name = begin.attempt.attempt
        redaction = self._redactions.of(begin.mask, begin.redact)
        log = None
        if not self.parts.is_done(name):
            log = AttemptLog(begin.attempt, redaction, run=begin.run, requeued=begin.requeued, markers=self._markers)
        self._slots[frame.slot] = log
        self._running.append(frame.slot)
        if log is not None:
            part.attempts.add(name)
            self.weigh()
            yield Shown(log, [])

    def _record(self, frame: Frame) -> Iterator[Shown]:
        if frame.kind == WORD:
            self._closing.hear(msgspec.json.decode(frame.payload, type=Word), frame.time)
            return
        log = self._slots.get(frame.slot)
        ending = msgspec.json.decode(frame.payload, type=Ending) if frame.kind == END else None
        if log is not None and ending is not None and ending.state == ABORTED:
            self._closing.aborted(log, ending, frame.time)
        elif log is not None:
            yield Shown(log, log.feed(frame))
        if frame.kind == END and frame.slot in self._slots:
            del self._slots[frame.slot]
            self._running.remove(frame.slot)
            self.program.end()

    def _raw(self, part: Part, upto: tuple[int, int], at: int, before: int) -> Iterator[Shown]:
        """Raw bytes belong to the task that the process runs; of nested ones, to the innermost."""
        for frame in part.copy.take(self.files.current, upto, at, before):
            log = self._slots.get(self._running[-1]) if self._running else None
            records = log.feed(frame) if log is not None and frame.payload else []
            new = frame.kind == RAW and frame.channel == NEW  # the console has seen the rest
            yield Shown(log, records, frame.stream, frame.payload if new else b"")

    def _bury(self) -> None:
        """The process is gone and all it wrote is read."""
        now = time_ns()
        for log in self.logs:
            self._closing.gone(log, now, self._memory)
        self._slots.clear()
        self._running.clear()
        self.finished = True
