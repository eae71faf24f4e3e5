"""The append-only file of one process: framed, checked records. Written with one system call each, never fsynced.

A frame is a header and a payload. Appends are atomic between threads and processes (``O_APPEND``), so the writer needs
no lock; a frame that a full disk cut short is skipped by the reader, which looks for the next one that checks out.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from time import time_ns
from typing import NamedTuple

# Kinds of frames. BEGIN, EVENT, GAP and END carry JSON.
BEGIN = 1  # {"attempt": an Attempt, "raw": {"stdout": path, "stderr": path} or null}
TEXT = 2  # bytes written to a stream
LOG = 3  # level \0 logger \0 message
EVENT = 4  # a stage event or trace, without n and timestamp
GAP = 5  # {"lines": …, "reason": …}: printed but not written here
END = 6  # {"state": …, "exit_code": …, "reason": …}
RAW = 7  # in a shipper's copy: bytes of a raw file

STREAMS = ("", "stdout", "stderr", "log", "internal")
STDOUT, STDERR, LOG_STREAM, INTERNAL = 1, 2, 3, 4

#: crc32 of all that follows | magic | kind | stream | payload bytes | slot | channel | time in ns | raw sizes
_HEADER = struct.Struct("<IHBBIIIQQQ")
_BODY = struct.Struct("<HBBIIIQQQ")
_CRC = struct.Struct("<I")
_MAGIC = 0x4C4A
_MAGIC_BYTES = _MAGIC.to_bytes(2, "little")

#: Bytes after which a new file is begun, so that what is archived can be deleted; an eighth of a small budget.
ROTATE_BYTES = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024
MAX_PAYLOAD = 16 * 1024 * 1024


class Frame(NamedTuple):
    """One record of a journal. `raw_out` and `raw_err` are the sizes of the raw files when it was written."""

    kind: int
    stream: int
    slot: int
    channel: int
    time: int
    raw_out: int
    raw_err: int
    payload: bytes


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
        body = _BODY.pack(_MAGIC, kind, stream, len(payload), slot, channel, time_ns(), raw[0], raw[1]) + payload
        frame = _CRC.pack(zlib.crc32(body)) + body
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


def spent(directory: Path) -> int:
    """The bytes that journals and copies in `directory` take."""
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith((".journal", ".copy")):
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        pass  # a file went away while we looked
    return total


def frame(kind: int, stream: int, slot: int, time: int, raw: tuple[int, int], payload: bytes) -> bytes:
    """The bytes of one frame."""
    body = _BODY.pack(_MAGIC, kind, stream, len(payload), slot, 0, time, raw[0], raw[1]) + payload
    return _CRC.pack(zlib.crc32(body)) + body


class FrameReader:
    """Reads the frames of a file that may still grow.

    :raises OSError: when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._rest = b""
        #: Bytes of the file up to which all frames were given.
        self.offset = 0
        #: Bytes that were no sound frame and were stepped over.
        self.damaged = 0
        self._searched = 0

    def read(self, *, complete: bool = False) -> list[tuple[int, Frame]]:
        """The next frames, each with its offset; empty when there is none yet.

        :param complete: whether nothing is written to the file any more.
        """
        grown = False
        while data := os.pread(self._fd, _READ_BYTES, self.offset + len(self._rest)):
            grown = True
            self._rest += data
            frames = self._take(*parse(self._rest))
            if frames:
                return frames
        return self._read_on() if complete or not grown else []

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _read_on(self) -> list[tuple[int, Frame]]:
        """Frames behind one that does not grow any more: a full disk has cut it short."""
        end = self.offset + len(self._rest)
        if end == self._searched:
            return []
        self._searched = end
        frames, _, _ = parse(self._rest, growing=False)
        if not frames:
            return []
        at, last = frames[-1]
        read = at + _HEADER.size + len(last.payload)
        return self._take(frames, read, read - sum(_HEADER.size + len(frame.payload) for _, frame in frames))

    def _take(self, frames: list[tuple[int, Frame]], read: int, damaged: int) -> list[tuple[int, Frame]]:
        base, self.offset, self._rest = self.offset, self.offset + read, self._rest[read:]
        self.damaged += damaged
        return [(base + at, frame) for at, frame in frames]


def parse(data: bytes, *, growing: bool = True) -> tuple[list[tuple[int, Frame]], int, int]:
    """Read all whole frames of `data`.

    :param growing: whether a frame that goes beyond the end may be still on its way.
    :returns: the frames, each with its offset; the offset up to which all is read; damaged bytes stepped over.
    """
    frames: list[tuple[int, Frame]] = []
    damaged = at = 0
    end = len(data)
    while at + _HEADER.size <= end:
        crc, magic, kind, stream, size, slot, channel, time, raw_out, raw_err = _HEADER.unpack_from(data, at)
        stop = at + _HEADER.size + size
        sound = magic == _MAGIC and size <= MAX_PAYLOAD
        if sound and stop > end and growing:
            break
        if sound and zlib.crc32(data[at + 4 : stop]) == crc:
            payload = data[at + _HEADER.size : stop]
            frames.append((at, Frame(kind, stream, slot, channel, time, raw_out, raw_err, payload)))
            at = stop
            continue
        following = data.find(_MAGIC_BYTES, at + 5)
        next_at = following - 4 if following >= 0 else max(at + 1, end - 5)
        damaged += next_at - at
        at = next_at
    return frames, at, damaged
