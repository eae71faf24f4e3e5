"""The format of journals: checked frames in an append-only file, and how they are read while the file grows.

A frame is a header and a payload. One that a full disk has cut short is stepped over: the reader looks for the next one
that checks out.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

# Kinds of frames. BEGIN, EVENT, GAP, END and WORD carry JSON.
BEGIN = 1  # {"attempt": an Attempt, "raw": {"stdout": path, "stderr": path} or null, "requeued": when it is lost}
TEXT = 2  # bytes written to a stream
LOG = 3  # level \0 logger \0 message; before the second \0 there may be FIELDS_FOLLOW and fields as a JSON object
EVENT = 4  # a stage event or trace, without n and timestamp
GAP = 5  # {"lines": …, "reason": …}: printed but not written here
END = 6  # {"state": …, "exit_code": …, "reason": …}
RAW = 7  # in a shipper's copy: bytes of a raw file
WORD = 8  # in a main process' journal: what it knows of a task or a child, see `endings.Word`
MASK = 9  # what is secret in this attempt from here on

#: Between a logger's name and the fields of a log record.
FIELDS_FOLLOW = b"\x1e"

STREAMS = ("", "stdout", "stderr", "log", "internal")
STDOUT, STDERR, LOG_STREAM, INTERNAL = 1, 2, 3, 4

#: crc32 of all that follows | magic | kind | stream | payload bytes | slot | channel | stage | time in ns | raw sizes
_HEADER = struct.Struct("<IHBBIIIIQQQ")
_BODY = struct.Struct("<HBBIIIIQQQ")
_CRC = struct.Struct("<I")
_MAGIC = 0x4C4B
_MAGIC_BYTES = _MAGIC.to_bytes(2, "little")

MAX_PAYLOAD = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024


class Frame(NamedTuple):
    """One record of a journal. `raw_out` and `raw_err` are the sizes of the raw files when it was written.

    `stage` is the number of the stage that the code was in which wrote it; 0 for none.
    """

    kind: int
    stream: int
    slot: int
    channel: int
    time: int
    raw_out: int
    raw_err: int
    payload: bytes
    stage: int = 0


def pack(
    kind: int, stream: int, slot: int, channel: int, time: int, raw: tuple[int, int], payload: bytes, stage: int = 0
) -> bytes:
    """The bytes of one frame."""
    body = _BODY.pack(_MAGIC, kind, stream, len(payload), slot, channel, stage, time, raw[0], raw[1]) + payload
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
        crc, magic, kind, stream, size, slot, channel, stage, time, raw_out, raw_err = _HEADER.unpack_from(data, at)
        stop = at + _HEADER.size + size
        sound = magic == _MAGIC and size <= MAX_PAYLOAD
        if sound and stop > end and growing:
            break
        if sound and zlib.crc32(data[at + 4 : stop]) == crc:
            payload = data[at + _HEADER.size : stop]
            frames.append((at, Frame(kind, stream, slot, channel, time, raw_out, raw_err, payload, stage)))
            at = stop
            continue
        following = data.find(_MAGIC_BYTES, at + 5)
        next_at = following - 4 if following >= 0 else max(at + 1, end - 5)
        damaged += next_at - at
        at = next_at
    return frames, at, damaged
