"""Copies of the raw files: what was written to descriptors 1 and 2 goes into files that last.

A copy is a journal of the shipper's own, one per file of the process' journal. Each of its frames notes the place in
that journal at which it stands, so that a shipper that starts anew puts everything into the same order and gives it the
same numbers. While the disk takes no copies, they are owed: what a raw file holds stays there until they are written.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time_ns

from celery_livelog.errors import complain
from celery_livelog.frames import GAP, RAW, Frame, FrameReader, pack
from celery_livelog.shipper.raw import RawFile

#: The channel of what no shipper before this one has taken.
NEW = 1
#: Copies that may be owed. Beyond it, or when the raw files' file system has less than a quarter left, their memory is
#: given back all the same: then only a shipper that is killed before the disk has room costs what was in it.
_OWED = 10_000
_OWED_SECONDS = 1.0


@dataclass(slots=True)
class _Owed:
    """A frame that the disk did not take. That of raw bytes holds none: they are in the raw file."""

    file: RawFile
    kind: int
    start: int
    end: int
    at: int
    time: int
    lines: int
    reason: str = "lost"

    def pack(self) -> bytes:
        kind, payload = self.kind, _counted(self.lines, self.reason)
        if kind == RAW:
            data = self.file.read_again(self.start, self.end)
            kind, payload = (RAW, data) if len(data) == self.end - self.start else (GAP, payload)
        return pack(kind, self.file.stream, 0, 0, self.time, (self.at, self.end), payload)


class RawCopy:
    """What was written to the raw files while one file of the process' journal was written.

    :param path: the copy; a shipper before this one may have left it.
    :param full: whether the spool's budget is spent: then lines are counted instead of kept.
    """

    def __init__(self, path: Path, full: Callable[[], bool]) -> None:
        self._path = path
        self._full = full
        self._fd = -1
        self._kept: deque[Frame] = deque()
        self._reader = FrameReader(path) if path.exists() else None
        self._owed: deque[_Owed] = deque()
        self._try_at = 0.0

    def take(self, files: list[RawFile], upto: tuple[int, int], at: int, before: int) -> Iterator[Frame]:
        """What was written to the files up to these sizes, before a time in ns; it stands before the offset `at`.

        What an earlier shipper has taken up to there comes first; all else is marked as `NEW`.
        """
        while (frame := self._next_kept()) is not None and frame.raw_out <= at:
            self._kept.popleft()
            for file in files:
                if file.stream == frame.stream:
                    file.offset = frame.raw_err
            yield frame
        if frame is not None:
            return
        for file in files:
            if file.skip_hole(upto[file.stream - 1]):
                yield self._keep(_Owed(file, GAP, 0, file.offset, at, min(before, time_ns()), 1), b"")
            for data in file.read(upto[file.stream - 1]):
                start, end, now, lines = file.offset - len(data), file.offset, min(before, time_ns()), data.count(b"\n")
                if self._full():
                    yield self._keep(_Owed(file, GAP, start, end, at, now, lines, "overload"), b"")
                else:
                    yield self._keep(_Owed(file, RAW, start, end, at, now, lines), data)

    def settle(self) -> bool:
        """Write the copies that are owed, once a second at most; give whether none is left."""
        if not self._owed:
            return True
        if monotonic() < self._try_at:
            return False
        while self._owed and self._append(self._owed[0].pack()):
            file = self._owed.popleft().file
            file.owed -= 1
            file.punch()
        return not self._owed

    def close(self, *, delete: bool) -> None:
        """Let go of the copy."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        for owed in self._owed:
            owed.file.owed -= 1
        self._owed.clear()
        if delete:
            self._path.unlink(missing_ok=True)

    def _next_kept(self) -> Frame | None:
        """The next frame of an earlier shipper; read as far as needed, since there may be a lot."""
        if not self._kept and self._reader is not None:
            self._kept.extend(frame for _, frame in self._reader.read(complete=True))
            if not self._kept:
                self._reader.close()
                self._reader = None
        return self._kept[0] if self._kept else None

    def _keep(self, new: _Owed, data: bytes) -> Frame:
        """Append to the copy; `raw_out` is the place in the journal, `raw_err` that in the raw file behind the data."""
        file, payload = new.file, data if new.kind == RAW else _counted(new.lines, new.reason)
        packed = pack(new.kind, file.stream, 0, 0, new.time, (new.at, new.end), payload)
        if file.owed or not self._append(packed):
            file.owed += 1
            self._owed.append(new)
            if len(self._owed) > _OWED or file.cramped:
                self._give_up()
        return Frame(new.kind, file.stream, 0, NEW, new.time, new.at, new.end, payload)

    def _give_up(self) -> None:
        """Give back the memory of all bytes whose copies are owed; what is owed then is how many lines they had."""
        left: dict[RawFile, _Owed] = {}
        for owed in self._owed:
            owed.file.owed -= 1
            sum_of = left.setdefault(owed.file, owed)
            if sum_of is not owed:
                sum_of.end, sum_of.lines = owed.end, sum_of.lines + owed.lines
            sum_of.kind = GAP
        self._owed = deque(left.values())
        for file in left:
            file.punch()
            file.owed += 1

    def _append(self, frame: bytes) -> bool:
        """Write a frame; give whether the disk took it."""
        try:
            if self._fd < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fd = os.open(self._path, flags, 0o600)
            written = os.write(self._fd, frame)
            if written == len(frame):
                return True
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except OSError as error:
            complain("raw output stays where it is: the spool directory takes no more", error)
            self._try_at = monotonic() + _OWED_SECONDS
            return False


def _counted(lines: int, reason: str) -> bytes:
    return b'{"lines":%d,"reason":"%s"}' % (lines, reason.encode()) if lines else b""
