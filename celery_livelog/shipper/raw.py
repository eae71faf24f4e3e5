"""The raw files of one process: what was written to descriptors 1 and 2, read and then punched out."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from celery_livelog.frames import STDERR, STDOUT

_CHUNK = 256 * 1024
_PAGE = 4096
#: Seconds between two questions whether anybody still writes to old raw files.
_OLDER_SECONDS = 1.0
#: Gives the bytes of a stream's file that were shown by who needs them for that.
Shown = Callable[[int], int]
_PUNCH_HOLE_KEEP_SIZE = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


class RawFile:
    """One raw file: read from where we stand, then punched out. One that is gone was read to its end before."""

    def __init__(self, path: str, stream: int, offset: int, shown: Shown | None = None) -> None:
        self._shown = shown
        self.path = Path(path)
        self.stream = stream
        #: Bytes of it that were taken.
        self.offset = offset
        #: How many copies of its bytes are still to be written.
        self.owed = 0
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
        """What was written since, up to that size, in chunks; their memory is freed, unless copies are owed."""
        start = self.offset
        while self._fd >= 0 and self.offset < upto:
            data = os.pread(self._fd, min(_CHUNK, upto - self.offset), self.offset)
            if not data:
                break
            self.offset += len(data)
            yield data
        if self.offset > start:
            self.punch()

    def read_again(self, start: int, end: int) -> bytes:
        """Bytes that were taken before; fewer when a shell has emptied the file since."""
        return os.pread(self._fd, end - start, start) if self._fd >= 0 else b""

    def skip_hole(self, upto: int) -> bool:
        """Whether the next bytes were given up by a shipper that was killed later; they are stepped over."""
        if self._fd < 0 or self.offset >= upto:
            return False
        try:
            data = min(upto, os.lseek(self._fd, self.offset, os.SEEK_DATA))
        except OSError:  # nothing but a hole from here on, or a file system that does not tell
            data = self.offset if os.pread(self._fd, _PAGE, self.offset).strip(b"\0") else upto
        found, self.offset = data > self.offset, max(data, self.offset)
        return found

    def punch(self) -> None:
        """Give back the memory of what was taken, unless copies of it are owed or somebody else has yet to show it."""
        end = self.offset if self._shown is None or self.cramped else min(self.offset, self._shown(self.stream))
        whole = end // _PAGE * _PAGE
        if self._fd >= 0 and whole and not self.owed:
            _punch(self._fd, whole)

    @property
    def cramped(self) -> bool:
        """Whether little room is left where it lies."""
        if self._fd < 0:
            return False
        there = os.fstatvfs(self._fd)
        return there.f_bavail * 4 < there.f_blocks

    @property
    def in_use(self) -> bool:
        """Whether another process has the file open, as far as can be told."""
        return self._alone() is False

    @property
    def forsaken(self) -> bool:
        """Whether all was read and no process has the file open but this one."""
        if self._fd < 0:
            return True
        return not self.owed and self._alone() is True and self.offset >= self.size()

    def _alone(self) -> bool | None:
        """Whether no other process has the file open: then a lease on it can be had, where there are any."""
        if self._fd < 0:
            return True
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            return False if error.errno == errno.EAGAIN else None
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return True

    def close(self, *, delete: bool) -> None:
        """Let go of it; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if delete:
            self.path.unlink(missing_ok=True)


#: Path, stream and bytes taken of the current files, and of older ones.
RawState = tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]


class RawFiles:
    """The two files to which a process writes now, and older ones to which somebody may still write."""

    def __init__(self) -> None:
        #: That of stdout and that of stderr; none while the process' descriptors are not captured.
        self.current: list[RawFile] = []
        self._older: list[RawFile] = []
        self._ask_at = 0.0

    @property
    def have_grown(self) -> bool:
        """Whether something was written that is not taken yet. Nobody rings for it."""
        return any(file.size() > file.offset for file in self.current)

    def state(self) -> RawState:
        """All files, with how much of each was taken."""
        return _taken(self.current), _taken(self._older)

    def resume(self, state: RawState) -> None:
        """Go on from where a shipper before this one stood."""
        self.current, self._older = ([RawFile(*file) for file in files] for files in state)

    def sizes(self) -> tuple[int, int]:
        """Bytes that were written to the current ones."""
        return (self.current[0].size(), self.current[1].size()) if self.current else (0, 0)

    def switch(self, paths: dict[str, str], sizes: tuple[int, int], shown: Shown | None = None) -> None:
        """From here on the process writes to these; whoever still writes to others was left behind.

        :param shown: how much of each was shown by somebody else, who needs it until then.
        """
        if [str(file.path) for file in self.current] != [paths["stdout"], paths["stderr"]]:
            self.leave()
            self.current = open_files(paths, sizes, shown)
            self._forsake()

    def leave(self) -> None:
        """From here on whoever still writes to the files was left behind."""
        self._older += self.current
        self.current = []

    @property
    def in_use(self) -> bool:
        """Whether anybody can still write to the current ones."""
        return any(file.in_use for file in self.current)

    @property
    def left(self) -> bool:
        """Whether somebody can still write to older ones."""
        return any(file.in_use for file in self._older)

    def left_behind(self) -> Iterator[tuple[int, bytes]]:
        """What outlived its task goes to the console only: that task's log is closed."""
        for file in self._older:
            for data in file.read(file.size()):
                yield file.stream, data
        if self._older and monotonic() > self._ask_at:
            self._forsake()

    def close(self, *, delete: bool) -> None:
        """Let go of all files."""
        for file in (*self.current, *self._older):
            file.close(delete=delete)

    def _forsake(self) -> None:
        """Delete old files that nobody writes to any more."""
        self._ask_at = monotonic() + _OLDER_SECONDS
        forsaken = [file for file in self._older if file.forsaken]
        self._older = [file for file in self._older if file not in forsaken]
        for file in forsaken:
            file.close(delete=True)


def _taken(files: list[RawFile]) -> list[tuple[str, int, int]]:
    return [(str(file.path), file.stream, file.offset) for file in files]


def open_files(paths: dict[str, str], sizes: tuple[int, int], shown: Shown | None = None) -> list[RawFile]:
    """The raw files at these paths. What was in them before is not asked for any more."""
    return [RawFile(paths["stdout"], STDOUT, sizes[0], shown), RawFile(paths["stderr"], STDERR, sizes[1], shown)]


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
