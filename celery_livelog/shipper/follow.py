"""Follows the journal of one process, with its raw files, through to numbered records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, time_ns
from typing import NamedTuple

import msgspec

from celery_livelog import spool
from celery_livelog.attempts import Attempt
from celery_livelog.endings import ABORTED, Ending, Word
from celery_livelog.errors import complain
from celery_livelog.frames import BEGIN, END, RAW, WORD, Frame, FrameReader
from celery_livelog.records import Record
from celery_livelog.redact import Redactor
from celery_livelog.shipper.attempt import AttemptLog
from celery_livelog.shipper.closing import Closing
from celery_livelog.shipper.copies import NEW, RawCopy
from celery_livelog.shipper.raw import RawFile, open_files
from celery_livelog.shipper.redaction import Redactions

#: Sizes of raw files up to which everything was taken before.
_NOTHING_NEW = (0, 0)
_MEMORY_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Seconds between two questions whether anybody still writes to old raw files.
_OLDER_SECONDS = 1.0


class _Begin(msgspec.Struct):
    """What a BEGIN frame says."""

    attempt: Attempt
    raw: dict[str, str] | None = None
    requeued: bool = False
    mask: list[bytes] = []
    redact: list[str] | None = []


class Shown(NamedTuple):
    """What one frame led to: records of an attempt, raw bytes for the console, or both."""

    log: AttemptLog | None
    records: list[Record]
    stream: int = 0
    raw: bytes = b""


class Part:
    """One file of the journal with its copy, and the attempts that need it."""

    def __init__(self, directory: Path, process: str, sequence: int, full: Callable[[], bool]) -> None:
        self.path = directory / f"{process}.{sequence:06d}.journal"
        self.reader = FrameReader(self.path)
        self.copy = RawCopy(self.path.with_suffix(".copy"), full)
        self.attempts: set[str] = set()
        self._done = self.path.with_suffix(".done")

    def done(self) -> set[str]:
        """The attempts that an earlier shipper was done with."""
        return set(self._done.read_text(errors="replace").split()) if self._done.exists() else set()

    def note_done(self, attempt: str) -> None:
        """Tell later shippers that we are done with an attempt; one that is not told archives the same once more."""
        self.attempts.discard(attempt)
        try:
            fd = os.open(self._done, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, attempt.encode() + b"\n")
            finally:
                os.close(fd)
        except OSError as error:
            complain("what is archived cannot be noted", error)

    def close(self, *, delete: bool) -> None:
        """Let go of it."""
        self.reader.close()
        self.copy.close(delete=delete)
        if delete:
            self.path.unlink(missing_ok=True)
            self._done.unlink(missing_ok=True)


class Follower:
    """One process that writes, or wrote, a journal.

    :param process: its name in the spool directory.
    :param alive: whether the process lives.
    :param full: whether the spool's budget is spent.
    :param closing: takes the attempts whose end others must tell.
    :param redactions: hide what is secret in what the process prints.
    """

    def __init__(
        self,
        directory: Path,
        process: str,
        alive: Callable[[], bool],
        full: Callable[[], bool],
        closing: Closing,
        redactions: Redactions | None = None,
    ) -> None:
        self._redactions = redactions or Redactions(Redactor())
        self._directory = directory
        self._process = process
        self._alive = alive
        self._full = full
        self._closing = closing
        self._memory = 0
        self._done: set[str] = set()
        self._sequence = min(_sequences(directory, process))
        self._parts = [self._open(self._sequence)]
        self._files: list[RawFile] = []
        self._older: list[RawFile] = []
        self._slots: dict[int, AttemptLog | None] = {}
        self._running: list[int] = []
        self._asked_older = 0.0
        self.finished = False

    @property
    def logs(self) -> list[AttemptLog]:
        """The logs of the attempts that run."""
        return [log for log in self._slots.values() if log is not None]

    @property
    def has_raw_files(self) -> bool:
        """Whether the process' descriptors are captured; nobody rings for what is written there."""
        return bool(self._files)

    @property
    def raw_files_have_grown(self) -> bool:
        """Whether something was written there that is not taken yet."""
        return any(file.size() > file.offset for file in self._files)

    def read(self) -> Iterator[Shown]:
        """All that is new."""
        alive = self._alive()  # asked first: what a process wrote before it died is there now
        yield from self._read_parts(alive=alive)
        yield from self._left_behind()
        all(part.copy.settle() for part in self._parts)  # the oldest first, as a later shipper will read them
        if not alive and not self.finished:
            self._bury()

    def done(self, attempt: str) -> None:
        """The attempt's log is where it belongs: its frames are needed no more."""
        for part in self._parts:
            if attempt in part.attempts:
                part.note_done(attempt)
        self._drop_parts()

    def close(self, *, delete: bool) -> None:
        """Let go of all files; `delete` when nobody needs them any more."""
        for file in (*self._files, *self._older):
            file.close(delete=delete)
        if delete:  # before the journals, which alone lead to them
            spool.delete_raw_files(self._directory, self._process)
        for part in self._parts:
            part.close(delete=delete)
        if delete:
            (self._directory / f"{self._process}.lock").unlink(missing_ok=True)

    @property
    def needed(self) -> bool:
        """Whether some attempt is not yet where it belongs."""
        return any(part.attempts for part in self._parts)

    def _open(self, sequence: int) -> Part:
        part = Part(self._directory, self._process, sequence, self._full)
        self._done |= part.done()
        return part

    def _read_parts(self, *, alive: bool) -> Iterator[Shown]:
        while True:
            part = self._parts[-1]
            # Raw sizes first, the journal second: bytes up to these sizes come before any record not yet there.
            files, sizes = self._files, self._sizes()
            there_is_more = self._there_is_more(alive=alive)  # looked before reading on: then this part is complete
            while frames := part.reader.read(complete=there_is_more or not alive):
                for at, frame in frames:
                    yield from self._raw(part, (frame.raw_out, frame.raw_err), at, frame.time)
                    if frame.kind == BEGIN:
                        yield from self._begin(part, frame)
                    else:
                        yield from self._record(frame)
            if not alive:
                files, sizes = self._files, self._sizes()  # no record comes any more: these bytes are the last
            if there_is_more or files is not self._files:
                sizes = _NOTHING_NEW
            yield from self._raw(part, sizes, part.reader.offset, time_ns())
            if not there_is_more:
                return
            self._sequence += 1
            self._parts.append(self._open(self._sequence))
            self._drop_parts()

    def _there_is_more(self, *, alive: bool) -> bool:
        """Whether the process writes to the next part. An empty one does not say so: some threads are a moment late."""
        following = self._directory / f"{self._process}.{self._sequence + 1:06d}.journal"
        return following.exists() and (not alive or following.stat().st_size > 0)

    def _begin(self, part: Part, frame: Frame) -> Iterator[Shown]:
        begin = msgspec.json.decode(frame.payload, type=_Begin)
        self._switch(begin.raw, (frame.raw_out, frame.raw_err))
        name = begin.attempt.attempt
        redaction = self._redactions.of(begin.mask, begin.redact)
        new = name not in self._done
        log = self._slots[frame.slot] = AttemptLog(begin.attempt, redaction, requeued=begin.requeued) if new else None
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

    def _raw(self, part: Part, upto: tuple[int, int], at: int, before: int) -> Iterator[Shown]:
        """Raw bytes belong to the task that the process runs; of nested ones, to the innermost."""
        for frame in part.copy.take(self._files, upto, at, before):
            log = self._slots.get(self._running[-1]) if self._running else None
            records = log.feed(frame) if log is not None and frame.payload else []
            new = frame.kind == RAW and frame.channel == NEW  # the console has seen the rest
            yield Shown(log, records, frame.stream, frame.payload if new else b"")

    def _sizes(self) -> tuple[int, int]:
        return (self._files[0].size(), self._files[1].size()) if self._files else (0, 0)

    def _switch(self, paths: dict[str, str] | None, sizes: tuple[int, int]) -> None:
        """From here on the process writes to these raw files; whoever still writes to others was left behind."""
        if paths is not None and [str(file.path) for file in self._files] != [paths["stdout"], paths["stderr"]]:
            self._older += self._files
            self._files = open_files(paths, sizes)
            self._forsake()

    def _left_behind(self) -> Iterator[Shown]:
        """What outlived its task goes to the console only: that task's log is closed."""
        for file in self._older:
            for data in file.read(file.size()):
                yield Shown(None, [], file.stream, data)
        now = monotonic()
        if self._older and now > self._asked_older + _OLDER_SECONDS:
            self._asked_older = now
            self._forsake()

    def _forsake(self) -> None:
        """Delete old raw files that nobody writes to any more."""
        forsaken = [file for file in self._older if file.forsaken]
        self._older = [file for file in self._older if file not in forsaken]
        for file in forsaken:
            file.close(delete=True)

    def weigh(self) -> None:
        """Look how much memory the process has; a kill may have to do with it."""
        pid = self._process.partition("-")[0]
        try:
            resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return
        self._memory = resident * _MEMORY_PAGE or self._memory  # 0 of one that is gone but not waited for

    def _bury(self) -> None:
        """The process is gone and all it wrote is read."""
        now = time_ns()
        for log in self.logs:
            self._closing.gone(log, now, self._memory)
        self._slots.clear()
        self._running.clear()
        self.finished = True

    def _drop_parts(self) -> None:
        """Delete the parts, oldest first, that nobody needs; the last one is still being written."""
        while len(self._parts) > 1 and not self._parts[0].attempts:
            self._parts.pop(0).close(delete=True)


def processes(directory: Path) -> set[str]:
    """The names of all processes that have journals in the directory."""
    return {name.split(".")[0] for name in os.listdir(directory) if name.endswith(".journal")}


def _sequences(directory: Path, process: str) -> list[int]:
    return [
        int(name.split(".")[1])
        for name in os.listdir(directory)
        if name.startswith(process + ".") and name.endswith(".journal")
    ]


def process_alive(directory: Path, process: str, leaving: Callable[[], bool]) -> bool:
    """Whether a process that writes journals lives; of our own process, whose lock cannot be asked, until it leaves."""
    if process.partition("-")[0] == str(os.getpid()):
        return not leaving()
    return spool.held(directory, process)
