"""Proves that an archive holds what its manifests say: reads every segment, and says what is wrong in which lines.

Streams over the listing of the archive: of however many logs, a few segments are in memory.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import msgspec

from celery_livelog.errors import ArchiveError
from celery_livelog.names import safe_name
from celery_livelog.records import End, Gap, Line, Partial, Record, decode
from celery_livelog.stores import seekable
from celery_livelog.stores.manifest import Manifest, Segment
from celery_livelog.stores.objects import Objects

#: Logs that are checked at once.
_CONCURRENCY = 8
#: Seconds that a segment may be there before the manifest that names it.
_MOMENT = 1.0
_MANIFEST = "manifest.json"


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


class Audit:
    """The check of the archive at a URL.

    :raises ArchiveError: from each method, when the store does not answer; damage is no error but a finding.
    """

    def __init__(self, url: str) -> None:
        self._objects = Objects(url)

    @property
    def exists(self) -> bool:
        """Whether there is an archive; of a remote one that is not known before it is asked."""
        return self._objects.exists

    async def check(self, task_ids: Sequence[str] = ()) -> AsyncIterator[Checked]:
        """Check the logs of these tasks, or of all."""
        checks: deque[asyncio.Task[Checked]] = deque()
        try:
            async for folder, names in self._folders(task_ids):
                checks.append(asyncio.ensure_future(self._check(folder, names)))
                if len(checks) >= _CONCURRENCY:
                    yield await checks.popleft()
            while checks:
                yield await checks.popleft()
        finally:
            for left in checks:
                left.cancel()

    async def _folders(self, task_ids: Sequence[str]) -> AsyncIterator[tuple[str, set[str]]]:
        """The folders of attempts, each with the names of the objects in it; stores list them folder by folder."""
        for prefix in [f"tasks/{safe_name(task_id)}" for task_id in task_ids] or ["tasks"]:
            current, names = "", set[str]()
            async for path in self._objects.walk(prefix):
                folder, _, name = path.rpartition("/")
                if folder != current and current:
                    yield current, names
                    names = set()
                current = folder
                names.add(name)
            if current:
                yield current, names

    async def _check(self, folder: str, names: set[str]) -> Checked:
        _, task, attempt = (f"//{folder}").rsplit("/", 2)
        checked = Checked(task, attempt)
        manifest = await self._manifest(folder, checked)
        if manifest is None:
            return checked
        checked.task_id, checked.complete = manifest.attempt.task_id, manifest.complete
        log = _Log(checked)
        for segment in manifest.segments:
            data = await self._objects.get(f"{folder}/{segment.name}")
            log.segment(segment, data)
        log.close(manifest)
        unnamed = names - {_MANIFEST, *(segment.name for segment in manifest.segments)}
        if manifest.complete and unnamed:
            checked.found(f"the manifest does not know {', '.join(sorted(unnamed))}")
        return checked

    async def _manifest(self, folder: str, checked: Checked) -> Manifest | None:
        text = await self._objects.get(f"{folder}/{_MANIFEST}")
        if text is None:
            await asyncio.sleep(_MOMENT)
            text = await self._objects.get(f"{folder}/{_MANIFEST}")
        if text is None:
            checked.found("there are segments but no manifest: no line of them is read")
            return None
        try:
            manifest = Manifest.from_json(text)
        except ArchiveError as error:
            checked.found(f"{_MANIFEST} is {error}: no line of the log is read")
            return None
        if manifest.path != folder:
            checked.found(f"{_MANIFEST} is that of {manifest.path}")
            return None
        return manifest


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
    _Log(checked, segment.first - 1).segment(segment, data)
    return "; ".join(finding.what for finding in checked.findings)


class _Log:
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
