"""The raw files of one process: what was written to descriptors 1 and 2 goes into copies that last.

A copy is a journal of the shipper's own, one per file of the process' journal. Each of its frames notes the place in
that journal at which it stands, so that a shipper that starts anew puts everything into the same order and gives it the
same numbers.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from time import time_ns

from celery_livelog.frames import GAP, RAW, STDERR, STDOUT, Frame, FrameReader, pack

#: The channel of what no shipper before this one has taken.
NEW = 1
_CHUNK = 256 * 1024
_PAGE = 4096
_PUNCH_HOLE_KEEP_SIZE = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


class RawFile:
    """One raw file: read from where we stand, then punched out. One that is gone was read to its end before."""

    def __init__(self, path: str, stream: int, offset: int) -> None:
        self.path = Path(path)
        self.stream = stream
        #: Bytes of it that were taken.
        self.offset = offset
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._fd = -1

    def size(self) -> int:
        """Bytes that were ever written to it; or since a shell's ``> /dev/stderr``, which empties it."""
        if self._fd < 0:
            return self.offset
        size = os.fstat(self._fd).st_size
        if size < self.offset:
            self.offset = 0
        return size

    def read(self, upto: int) -> Iterator[bytes]:
        """What was written since, up to that size, in chunks; their memory is freed."""
        start = self.offset
        while self._fd >= 0 and self.offset < upto:
            data = os.pread(self._fd, min(_CHUNK, upto - self.offset), self.offset)
            if not data:
                break
            self.offset += len(data)
            yield data
        whole = self.offset // _PAGE * _PAGE
        if self._fd >= 0 and self.offset > start and whole:
            _punch(self._fd, whole)

    @property
    def forsaken(self) -> bool:
        """Whether all was read and no process has the file open but this one: then a lease on it can be had."""
        if self._fd < 0:
            return True
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return self.offset >= self.size()

    def close(self, *, delete: bool) -> None:
        """Let go of it; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if delete:
            self.path.unlink(missing_ok=True)


class RawCopy:
    """What was written to the raw files while one file of the process' journal was written.

    :param path: the copy; a shipper before this one may have left it.
    :param full: whether the spool's budget is spent: then lines are counted instead of kept.
    """

    def __init__(self, path: Path, full: Callable[[], bool]) -> None:
        self._path = path
        self._full = full
        self._fd = -1
        self._kept: deque[tuple[int, Frame]] = deque()
        if path.exists():
            reader = FrameReader(path)
            while frames := reader.read(complete=True):
                self._kept += [(frame.raw_out, frame) for _, frame in frames]
            reader.close()

    def take(self, files: list[RawFile], upto: tuple[int, int], at: int, before: int) -> Iterator[Frame]:
        """What was written to the files up to these sizes, before a time in ns; it stands before the offset `at`.

        What an earlier shipper has taken up to there comes first; all else is marked as `NEW`.
        """
        while self._kept and self._kept[0][0] <= at:
            frame = self._kept.popleft()[1]
            for file in files:
                if file.stream == frame.stream:
                    file.offset = frame.raw_err
            yield frame
        if self._kept:
            return
        for file in files:
            for data in file.read(upto[file.stream - 1]):
                yield self._keep(file, data, at, min(before, time_ns()))

    def close(self, *, delete: bool) -> None:
        """Let go of the copy."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if delete:
            self._path.unlink(missing_ok=True)

    def _keep(self, file: RawFile, data: bytes, at: int, now: int) -> Frame:
        """Append to the copy; `raw_out` is the place in the journal, `raw_err` that in the raw file behind the data.

        :raises OSError: when the disk is full. Nothing is punched then: the next shipper takes it.
        """
        kind, payload = RAW, data
        if self._full():
            lines = data.count(b"\n")
            kind, payload = GAP, b'{"lines":%d,"reason":"overload"}' % lines if lines else b""
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._path, flags, 0o600)
        frame = pack(kind, file.stream, 0, 0, now, (at, file.offset), payload)
        if os.write(self._fd, frame) < len(frame):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        return Frame(kind, file.stream, 0, NEW, now, at, file.offset, payload)


def open_files(paths: dict[str, str], sizes: tuple[int, int]) -> list[RawFile]:
    """The raw files at these paths. What was in them before is not asked for any more."""
    return [RawFile(paths["stdout"], STDOUT, sizes[0]), RawFile(paths["stderr"], STDERR, sizes[1])]


def _punch(fd: int, upto: int) -> None:
    if _fallocate is not None:
        _fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, 0, upto)


def _load_fallocate() -> Callable[[int, int, int, int], int] | None:
    """Python has `posix_fallocate`, which cannot punch; where C has no ``fallocate`` the memory stays till the end."""
    try:
        function = ctypes.CDLL(None).fallocate64
    except AttributeError:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


_fallocate = _load_fallocate()
