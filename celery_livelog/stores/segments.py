"""Reads the segments of an archived log out of whatever gives ranges of their bytes: a store, or a worker far away.

Damage is no error: it shows as a gap.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Protocol

import msgspec

from celery_livelog.errors import ArchiveError
from celery_livelog.records import Gap, encode
from celery_livelog.stores import seekable
from celery_livelog.stores.manifest import Manifest, Segment

#: Packed bytes that are fetched with the seek table from the end of a segment; few logs have more in all.
END_BYTES = 64 * 1024
#: Packed bytes that one read fetches from the middle of a segment.
READ_BYTES = 128 * 1024


class Ranges(Protocol):
    """Where segments lie. Both raise `ArchiveError` when that fails."""

    async def get_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, fewer when the object ends there."""

    async def size(self, path: str) -> int:
        """The size of an object in bytes; 0 when there is none."""


class Mark(msgspec.Struct):
    """The part of an encoded record that says where in its log it stands."""

    n: int
    timestamp: str
    first: int | None = None

    @property
    def start(self) -> int:
        """The first number that the record stands for: its own, but of a gap."""
        return self.n if self.first is None else self.first


mark_of = msgspec.json.Decoder(Mark).decode


async def read_segments(ranges: Ranges, manifest: Manifest, after: int = 0) -> AsyncIterator[list[bytes]]:
    """Give the encoded records after number `after`, a frame at a time, and a gap for what is damaged or missing.

    Fetches nothing before the frame in which they begin.
    """
    reached, moment = after, manifest.attempt.started
    for segment in manifest.segments:
        if segment.last <= after:
            continue
        async for start, frame in _frames(ranges, f"{manifest.path}/{segment.name}", segment, after):
            batch = _records(frame, reached)
            if batch:
                mark = mark_of(batch[-1])
                if start > reached + 1:
                    batch.insert(0, _lost(reached + 1, start - 1, moment))
                yield batch
                reached, moment = mark.n, mark.timestamp
    end = manifest.segments[-1].last if manifest.segments else 0
    if reached < end:
        yield [_lost(reached + 1, end, moment)]


async def _frames(ranges: Ranges, path: str, segment: Segment, after: int) -> AsyncIterator[tuple[int, bytes]]:
    """The packed frames of a segment with the numbers they start at, from the one that holds `after` + 1."""
    begin, data, offsets = await _locate(ranges, path, segment.size)
    index = max(0, bisect_right(segment.frames, after + 1) - 1)
    for start, (here, there) in list(zip(segment.frames, pairwise(offsets), strict=False))[index:]:
        if here < begin or there > begin + len(data):
            end = min(max(there, here + READ_BYTES), offsets[-1])
            begin, data = here, await ranges.get_range(path, here, end)
        yield start, data[here - begin : there - begin]


async def _locate(ranges: Ranges, path: str, size: int) -> tuple[int, bytes, list[int]]:
    """The end of a segment: the offset at which it begins, its bytes, and the offsets of all frames."""
    begin = max(0, size - END_BYTES)
    try:
        data = await ranges.get_range(path, begin, size)
        return begin, data, seekable.offsets(data, size)
    except ArchiveError:  # cut short, gone, or damaged at its end: what is left is found from the start
        left = min(size, await ranges.size(path))
        data = await ranges.get_range(path, 0, left) if left else b""
        return 0, data, seekable.scan(data)


def _records(frame: bytes, after: int) -> list[bytes]:
    """The records of a frame with numbers above `after`; none when it is damaged."""
    try:
        return [line for line in seekable.unpack(frame) if mark_of(line).n > after]
    except (ArchiveError, msgspec.MsgspecError, ValueError):
        return []


def _lost(first: int, last: int, moment: str) -> bytes:
    return encode(Gap(n=last, timestamp=moment, skipped=last - first + 1, first=first, last=last, reason="lost"))
