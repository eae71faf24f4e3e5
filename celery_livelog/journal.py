"""The append-only file of one process. Each record is written with one system call; nothing is ever fsynced.

Appends are atomic between threads and processes (``O_APPEND``), so the writer needs no lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from time import time_ns

from celery_livelog.frames import LOG_STREAM, STDERR, STDOUT, pack
from celery_livelog.spool import spent

#: Bytes after which a new file is begun, so that what is archived can be deleted; an eighth of a small budget.
ROTATE_BYTES = 16 * 1024 * 1024


class Journal:
    """Where a process appends. Thread-safe without a lock; raises nothing but `OSError` from opening.

    :param directory: the worker's spool directory.
    :param process: the name of the process' files, unique in the directory.
    :param budget: bytes that all files in the directory together may take.
    """

    def __init__(self, directory: Path, process: str, budget: int, ring: Callable[[], None]) -> None:
        self._directory = directory
        self._process = process
        self._budget = budget
        self._rotate_bytes = min(ROTATE_BYTES, max(budget // 8, 4096))
        self._ring = ring
        self._sequence = 1
        self._fd = self._open()
        self._size = 0
        self._rotating = threading.Lock()
        self._pid = os.getpid()
        self._looked = 0
        self._diverted = False
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
        force: bool = False,
    ) -> bool:
        """Append one frame; give whether it is in the file. `force` writes beyond the budget: begins, gaps, ends."""
        if self._diverted:
            return _write_out(stream, payload)
        if self.full and not force and not self.has_room():
            return False
        frame = pack(kind, stream, slot, channel, time_ns(), raw, payload)
        try:
            written = os.write(self._fd, frame)
        except OSError:
            return False
        self._size += written
        if self._size >= self._rotate_bytes:
            self._rotate()
        self._ring()
        return written == len(frame)

    def has_room(self) -> bool:
        """Whether the budget has room; when it was spent, looks at the directory ten times a second at most."""
        if self.full and time_ns() - self._looked > 100_000_000:
            self._looked = time_ns()
            self.full = spent(self._directory) > self._budget
        return not self.full

    def divert(self) -> None:
        """In a forked child: let text go to descriptors 1 and 2 instead, as that of any subprocess."""
        self._diverted = True

    def close(self) -> None:
        """Stop writing; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        path = self._directory / f"{self._process}.{self._sequence:06d}.journal"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _rotate(self) -> None:
        """Begin the next file behind the same descriptor number: a thread in the middle of a write is not disturbed.

        One thread does it, and the others go on; a child that a task forked leaves it to its parent.
        """
        if os.getpid() != self._pid or not self._rotating.acquire(blocking=False):
            return
        try:
            if self._size < self._rotate_bytes:
                return  # another thread has done it
            self._size = 0
            self._sequence += 1
            fd = self._open()
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)
        except OSError:
            self._sequence -= 1  # no room for a new file: go on in the old one
        finally:
            self._rotating.release()
        self.full = spent(self._directory) > self._budget


def _write_out(stream: int, payload: bytes) -> bool:
    """Write text of a forked child to its own stdout or stderr; a log record as its message."""
    if stream in (STDOUT, STDERR, LOG_STREAM):
        text = payload if stream != LOG_STREAM else payload.split(b"\0", 2)[2] + b"\n"
        try:
            os.write(stream if stream != LOG_STREAM else STDERR, text)
        except OSError:
            return False
    return True
