"""The append-only file of one process. Each record is written with one system call; nothing is ever fsynced.

Appends are atomic between threads and processes (``O_APPEND``), so the writer needs no lock.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time_ns

from celery_livelog.files import in_place_of, private_file
from celery_livelog.frames import LOG_STREAM, STDERR, STDOUT, pack
from celery_livelog.interrupts import is_interrupt
from celery_livelog.spool import spent

#: Bytes after which a new file is begun, so that what is archived can be deleted; an eighth of a small budget.
ROTATE_BYTES = 16 * 1024 * 1024
#: Begins and ends, of less than a KiB mostly, that wait in memory for a disk that takes nothing; beyond, the oldest are
#: given up.
_OWED = 8000
#: Seconds between two looks for room, and between two tries of a new file.
_LOOK_SECONDS = 0.1


class Journal:
    """Where a process appends. Thread-safe without a lock; raises nothing but `OSError` from opening.

    What must be there for a log to begin and end waits in memory while the disk takes nothing, and comes first when it
    does again.

    :param directory: the worker's spool directory.
    :param process: the name of the process' files, unique in the directory.
    :param budget: bytes that all files in the directory together may take.
    """

    def __init__(self, directory: Path, process: str, budget: int, ring: Callable[[], None]) -> None:
        self._directory = directory.absolute()  # a task may go elsewhere
        self._process = process
        self._budget = budget
        self._rotate_bytes = min(ROTATE_BYTES, max(budget // 8, 4096))
        self._ring = ring
        self._sequence = 1
        self._fd = self._open()
        self._size = 0
        self._rotating = threading.Lock()
        self._pid = os.getpid()
        self._looked = self._tried = -_LOOK_SECONDS
        self._owed: deque[bytes] = deque(maxlen=_OWED)
        self._diverted: tuple[int, ...] = ()
        #: Whether the budget is spent: what is printed is counted instead of written.
        self.full = False

    def append(
        self,
        kind: int,
        stream: int,
        slot: int,
        channel: int,
        raw: tuple[int, int],
        payload: bytes,
        *,
        stage: int = 0,
        force: bool = False,
        must: bool = False,
    ) -> bool:
        """Append one frame; give whether it is in the file, or will be.

        :param stage: the number of the stage that it comes from; 0 for none.
        :param force: write it beyond the budget: begins, gaps, ends.
        :param must: also keep it for later when the disk does not take it.
        """
        if self._diverted:
            return stream not in self._diverted or _write_out(stream, payload)
        if self.full and not force and not must and not self.has_room():
            return False
        frame = pack(kind, stream, slot, channel, time_ns(), raw, payload, stage)
        written = self._write(frame) if not self._owed or self._pay() else 0
        if written < len(frame):
            if must:
                self._owed.append(frame)
            return must
        if self._size >= self._rotate_bytes:
            self._rotate()
        self._ring()
        return True

    def _write(self, frame: bytes) -> int:
        """Append a frame; give how much of it is in the file. A file that takes nothing more is followed by another."""
        try:
            written = os.write(self._fd, frame)
        except OSError as error:
            if is_interrupt(error):
                raise
            if self._fd < 0 or not self._begin_anew():
                return 0
            try:
                written = os.write(self._fd, frame)
            except OSError as again:
                if is_interrupt(again):
                    raise
                return 0
        self._size += written
        return written

    def _begin_anew(self) -> bool:
        """The file takes nothing more (closed by the task, too large for its limits, on a bad disk): begin another."""
        now = monotonic()
        if now - self._tried < _LOOK_SECONDS or os.getpid() != self._pid or self._is_empty():
            return False
        self._tried = now
        return self._rotate(force=True)

    def _is_empty(self) -> bool:
        """Whether nothing is in the file yet: another one would not take more."""
        try:
            return os.fstat(self._fd).st_size == 0
        except OSError:
            return False

    def _pay(self) -> bool:
        """Write what is owed; give whether nothing is owed any more. It is not the debt of a forked child."""
        if os.getpid() != self._pid:
            self._owed.clear()
        while self._owed:
            try:
                frame = self._owed.popleft()
            except IndexError:
                break  # another thread has paid
            if self._write(frame) < len(frame):
                self._owed.appendleft(frame)
                return False
        return True

    def has_room(self) -> bool:
        """Whether the budget has room; when it was spent, looks at the directory ten times a second at most."""
        now = monotonic() if self.full else 0.0  # not the time of day, which may go back
        if self.full and now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self.full = spent(self._directory) > self._budget
        return not self.full and (not self._owed or self._pay())

    def divert(self, *, records: bool = True) -> None:
        """In a forked child: let text go to descriptors 1 and 2 instead, as that of any subprocess.

        :param records: whether log records go there too, which log handlers may do as well.
        """
        self._diverted = (STDOUT, STDERR, LOG_STREAM) if records else (STDOUT, STDERR)

    def close(self) -> None:
        """Stop writing; harmless when done twice."""
        if self._fd >= 0:
            self._pay()
            fd, self._fd = self._fd, -1
            try:
                os.close(fd)
            except OSError:
                pass  # the task has done it

    def _open(self) -> int:
        path = self._directory / f"{self._process}.{self._sequence:06d}.journal"
        return private_file(path, os.O_WRONLY | os.O_APPEND)

    def _rotate(self, *, force: bool = False) -> bool:
        """Begin the next file behind the same descriptor number: a thread in the middle of a write is not disturbed.

        One thread does it, and the others go on; a child that a task forked leaves it to its parent. Gives whether
        there is a new file.
        """
        if os.getpid() != self._pid or not self._rotating.acquire(blocking=False):
            return False
        try:
            if self._size < self._rotate_bytes and not force:
                return False  # another thread has done it
            self._sequence += 1
            self._fd = in_place_of(self._fd, self._open())
        except OSError as error:
            self._sequence -= 1  # no room for a new file: go on in the old one
            if is_interrupt(error):
                raise
            return False
        finally:
            self._size = 0  # also when there is no other: the next try comes a file later
            self._rotating.release()
        self.full = spent(self._directory) > self._budget
        return True


def _write_out(stream: int, payload: bytes) -> bool:
    """Write text of a forked child to its own stdout or stderr; a log record as its message."""
    text = payload if stream != LOG_STREAM else payload.split(b"\0", 2)[2] + b"\n"
    try:
        os.write(stream if stream != LOG_STREAM else STDERR, text)
    except OSError as error:
        if is_interrupt(error):
            raise
        return False
    return True
