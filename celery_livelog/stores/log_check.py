"""What is wrong with the archived log of one attempt, segment by segment, in plain words. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import msgspec

from celery_livelog.errors import ArchiveError
from celery_livelog.records import End, Gap, Line, Partial, Record, decode
from celery_livelog.stores import seekable
from celery_livelog.stores.manifest import Manifest, Segment


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong with the archived log of one attempt; `first` to `last` are the lines it costs, if any.

    `task_id` is the name of the task's folder where no manifest tells the id.
    """

    task_id: str
    attempt: str
    segment: str = ""
    first: int = 0
    last: int = 0
    what: str


@dataclass(slots=True)
class Checked:
    """What the check of one attempt gave."""

    task_id: str
    attempt: str
    complete: bool = False
    segments: int = 0
    #: Stored bytes that were read.
    size: int = 0
    records: int = 0
    findings: list[Finding] = field(default_factory=list)

    def found(self, what: str, segment: str = "", first: int = 0, last: int = 0) -> None:
        """Note a finding."""
        self.findings.append(
            Finding(task_id=self.task_id, attempt=self.attempt, segment=segment, first=first, last=last, what=what)
        )


def difference(segment: Segment, data: bytes) -> str:
    """What is wrong with a segment on its own; empty when these bytes are the records that it is said to have."""
    try:
        claims = seekable.claims(data)
        claimed = sum(size for _, size in claims)
        if claimed != segment.raw_bytes:
            return f"it unpacks to {claimed} bytes instead of {segment.raw_bytes}"
        for frame, size in claims:  # many lines take far more memory than their bytes
            if size > seekable.FRAME_BYTES and not seekable.is_one_line(frame):
                return f"a frame of {size} bytes holds several lines; expected at most {seekable.FRAME_BYTES}"
    except ArchiveError as error:
        return str(error)
    checked = Checked("", "")
    LogCheck(checked, segment.first - 1).segment(segment, data)
    return "; ".join(finding.what for finding in checked.findings)


class LogCheck:
    """The check of one attempt's segments, in the order of the manifest. Pure."""

    def __init__(self, checked: Checked, reached: int = 0) -> None:
        self._checked = checked
        self._reached = reached
        self._lines = self._skipped = 0
        self._last: Record | None = None
        self._whole = True

    def segment(self, segment: Segment, data: bytes | None) -> None:
        """Check the next segment; `data` is None when it is gone."""
        checked = self._checked
        checked.segments += 1
        if segment.first != self._reached + 1:
            self._disorder(segment)
        self._reached = segment.last
        if data is None:
            self._whole = False
            what = f"is missing: lines {segment.first}-{segment.last} are lost"
            checked.found(what, segment.name, segment.first, segment.last)
            return
        checked.size += len(data)
        lost = self._read(segment, data)
        what = _difference(segment, data)
        if what or lost:
            self._whole = False
            checked.found(_told(what, lost), segment.name, lost[0][0] if lost else 0, lost[-1][1] if lost else 0)

    def close(self, manifest: Manifest) -> None:
        """Check what the manifest says of the whole log; a damaged one has been told of."""
        attempt = manifest.attempt
        if not manifest.complete or not self._whole:
            return
        if not isinstance(self._last, End):
            self._checked.found("the log has no end although it is said to be complete")
        for name, said, there in (("lines", attempt.lines, self._lines), ("skipped", attempt.skipped, self._skipped)):
            if said != there:
                self._checked.found(f"the manifest says {said} {name}; in the segments are {there}")

    def _disorder(self, segment: Segment) -> None:
        self._whole = False
        before, first = self._reached, segment.first
        if first <= before:
            self._checked.found(f"out of order: it starts with line {first} after line {before}", segment.name)
        else:
            what = f"lines {before + 1}-{first - 1} are in no segment"
            self._checked.found(what, segment.name, before + 1, first - 1)

    def _read(self, segment: Segment, data: bytes) -> list[tuple[int, int]]:
        """Go through all records; give the numbers that cannot be read, as ranges."""
        try:
            offsets = seekable.offsets(data, len(data))
        except ArchiveError:
            offsets = seekable.scan(data)
        lost: list[tuple[int, int]] = []
        ends = [*(start - 1 for start in segment.frames[1:]), segment.last]
        count = 0
        for at, (first, last) in enumerate(zip(segment.frames, ends, strict=True)):
            frame = data[offsets[at] : offsets[at + 1]] if at + 1 < len(offsets) else b""
            records = _decoded(frame, first, last)
            count += len(records)
            if records:
                self._count(records)
            elif lost and lost[-1][1] == first - 1:
                lost[-1] = lost[-1][0], last
            else:
                lost.append((first, last))
        self._checked.records += count
        if not lost and count != segment.records:
            self._whole = False
            self._checked.found(f"the manifest says {segment.records} records; there are {count}", segment.name)
        return lost

    def _count(self, records: list[Record]) -> None:
        self._last = records[-1]
        for record in records:
            if isinstance(record, Line):
                self._lines += not record.more
            elif isinstance(record, Gap):
                self._skipped += record.skipped


def _decoded(frame: bytes, first: int, last: int) -> list[Record]:
    """The records of a frame when they are those with the numbers `first` to `last`, each once; else none."""
    try:
        records = [decode(line) for line in seekable.unpack(frame)]
    except (ArchiveError, msgspec.MsgspecError, ValueError, RecursionError):
        return []
    reached = first - 1
    for record in records:
        if isinstance(record, Partial) or (record.first if isinstance(record, Gap) else record.n) != reached + 1:
            return []
        reached = record.n
    return records if reached == last else []


def _difference(segment: Segment, data: bytes) -> str:
    """In what the stored bytes differ from what the manifest says; empty when in nothing."""
    if len(data) < segment.size:
        return f"{segment.size - len(data)} bytes short of {segment.size}"
    if len(data) > segment.size:
        return f"{len(data) - segment.size} bytes more than {segment.size}"
    crc32 = zlib.crc32(data)
    return f"CRC {crc32:08x} instead of {segment.crc32:08x}" if crc32 != segment.crc32 else ""


def _told(difference: str, lost: list[tuple[int, int]]) -> str:
    if not lost:
        return f"{difference}: all lines can be read"
    lines = ", ".join(f"{first}-{last}" for first, last in lost)
    said = f"{difference or 'not the lines that the manifest says'}: "
    return f"{said}lines {lines} are lost"
