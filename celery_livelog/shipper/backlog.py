"""What waits for a store that is away: first in, first out, little of it in memory, the rest in the spool directory.

The files are no journal: what they hold is also in the journals, from which a shipper that comes after a kill takes it
anew. So nothing is fsynced, and what an earlier shipper has left is deleted.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections import deque
from pathlib import Path

from celery_livelog import spool
from celery_livelog.errors import complain

#: Bytes that may wait in memory.
MEMORY_BYTES = 16 * 1024 * 1024
#: Bytes after which a file is full. A file is read back as a whole.
_FILE_BYTES = 8 * 1024 * 1024
_SIZE = struct.Struct("<I")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class Backlog:
    """A queue of byte strings between one thread that puts and one that takes.

    :param directory: the spool directory; its byte budget counts the files.
    :param name: whose backlog it is; each has its own.
    :param limit: bytes that may wait in memory. Above it they do so only while the disk takes no more.
    """

    def __init__(self, directory: Path, name: str, limit: int = MEMORY_BYTES) -> None:
        self._directory = directory
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._head: deque[bytes] = deque()
        self._files: deque[_File] = deque()
        self._tail: deque[bytes] = deque()  # behind the files: the disk was full
        self._made = 0
        #: Bytes that are in memory now.
        self.held = 0
        for left in directory.glob(f"{name}.*{spool.WAITING}"):
            left.unlink(missing_ok=True)

    def put(self, item: bytes) -> None:
        """Append an item; never raises for a disk that is full."""
        with self._lock:
            self.held += len(item)
            if not self._files and not self._tail and self.held <= self._limit:
                self._head.append(item)
                return
            self._tail.append(item)
            try:
                while self._tail:
                    self._write(self._tail[0])
                    self.held -= len(self._tail.popleft())
            except OSError as error:
                complain(f"what waits for the {self._name} stays in memory: the spool directory takes no more", error)

    def first(self) -> bytes:
        """The item that was put first.

        :raises IndexError: when there is none.
        :raises OSError: when it cannot be read back.
        """
        with self._lock:
            if not self._head and self._files:
                self._head.extend(self._files[0].items())
                self.held += sum(map(len, self._head))
                self._files.popleft().delete()
            elif not self._head:
                self._head, self._tail = self._tail, self._head
            return self._head[0]

    def drop(self) -> None:
        """Let go of the item that `first` gave."""
        with self._lock:
            self.held -= len(self._head.popleft())

    def close(self) -> None:
        """Delete the files."""
        with self._lock:
            while self._files:
                self._files.popleft().delete()

    def _write(self, item: bytes) -> None:
        if not self._files or self._files[-1].size >= _FILE_BYTES:
            self._made += 1
            self._files.append(_File(self._directory / f"{self._name}.{self._made:06d}{spool.WAITING}"))
        self._files[-1].append(item)


class _File:
    """One file of items. It stays open: whoever deletes it does no harm."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, _FLAGS, 0o600)
        self.size = 0

    def append(self, item: bytes) -> None:
        data = _SIZE.pack(len(item)) + item
        if (written := os.write(self._fd, data)) < len(data):
            os.ftruncate(self._fd, self.size)
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {written} of {len(data)} bytes", str(self._path))
        self.size += len(data)

    def items(self) -> list[bytes]:
        found, at = [], 0
        while at < self.size:
            (size,) = _SIZE.unpack(self._read(at, _SIZE.size))
            found.append(self._read(at + _SIZE.size, size))
            at += _SIZE.size + size
        return found

    def delete(self) -> None:
        os.close(self._fd)
        self._path.unlink(missing_ok=True)

    def _read(self, at: int, size: int) -> bytes:
        data = os.pread(self._fd, size, at)
        if len(data) < size:
            raise OSError(errno.EIO, f"{len(data)} bytes at {at}; expected {size}", str(self._path))
        return data
