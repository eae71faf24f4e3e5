"""The archive: complete logs, as compressed segments and a manifest for each attempt.

Layout: ``tasks/<safe task id>/<attempt>/<first n>.jsonl.zst`` with ``manifest.json`` beside. A segment counts once the
manifest names it. Knows neither Redis nor the catalog.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence

from celery_livelog.errors import ArchiveError, complain
from celery_livelog.names import safe_name
from celery_livelog.stores import seekable
from celery_livelog.stores.manifest import Manifest, Segment, attempt_path
from celery_livelog.stores.objects import Objects
from celery_livelog.stores.segments import mark_of, read_segments

__all__ = ["Archive", "Manifest", "Segment", "pack_segment"]

#: Manifests that are fetched at once.
CONCURRENCY = 16


class Archive:
    """The archive at a URL: ``file://``, ``s3://``, ``gs://``, ``az://`` or ``memory://``.

    What writes is synchronous, for the shipper's own thread; what reads is asynchronous. All of it raises
    `ArchiveError` when the store fails. Damage to a log is no error: it shows as a gap.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._objects = Objects(url)

    def place(self, task_id: str, attempt: str) -> str:
        """The URL of the folder of an attempt, for people and the catalog."""
        return f"{self.url}{'' if self.url.endswith('/') else '/'}{attempt_path(task_id, attempt)}"

    def put_segment(self, task_id: str, attempt: str, lines: Sequence[bytes], first: int, last: int) -> Segment:
        """Store encoded records as one segment; see `pack_segment` and `put_packed`."""
        segment, data = pack_segment(lines, first, last)
        self.put_packed(task_id, attempt, segment, data)
        return segment

    def put_packed(self, task_id: str, attempt: str, segment: Segment, data: bytes) -> None:
        """Store a segment.

        :raises ArchiveError: also when the store does not give back what it was given.
        """
        self._objects.put(f"{attempt_path(task_id, attempt)}/{segment.name}", data)

    def put_manifest(self, manifest: Manifest) -> None:
        """Store what the archive holds of an attempt now, in place of what it held before.

        :raises ArchiveError: also when the store does not give back what it was given.
        """
        self._objects.put(f"{manifest.path}/manifest.json", manifest.to_json())

    def segments(self, task_id: str, attempt: str) -> list[Segment]:
        """What the manifest of an attempt names; nothing when it is damaged: what is put takes its place."""
        text = self._objects.fetch(f"{attempt_path(task_id, attempt)}/manifest.json")
        try:
            return Manifest.from_json(text).segments if text is not None else []
        except ArchiveError:
            return []

    def has(self, task_id: str, attempt: str, segments: Sequence[Segment]) -> bool:
        """Whether segments that were put are still there, as long as they were."""
        folder = attempt_path(task_id, attempt)
        return all(self._objects.length(f"{folder}/{segment.name}") == segment.size for segment in segments)

    def tidy(self, manifest: Manifest) -> None:
        """Delete what the folder of an attempt holds beside this, its last manifest and its segments.

        A shipper that was killed may have left it.
        """
        self._objects.keep_only(manifest.path, {"manifest.json", *(segment.name for segment in manifest.segments)})

    async def manifests(self, task_id: str) -> list[Manifest]:
        """The manifests of a task's attempts in order of start, running ones too; damaged ones are left out."""
        folders = await self._objects.folders(f"tasks/{safe_name(task_id)}")
        limit = asyncio.Semaphore(CONCURRENCY)
        found = await asyncio.gather(*(self._manifest(folder, limit) for folder in folders))
        own = [manifest for manifest in found if manifest is not None and manifest.attempt.task_id == task_id]
        return sorted(own, key=lambda manifest: (manifest.attempt.started, manifest.attempt.attempt))

    def read(self, manifest: Manifest, after: int = 0) -> AsyncIterator[list[bytes]]:
        """See `read_segments`."""
        return read_segments(self._objects, manifest, after)

    async def tail(self, manifest: Manifest, count: int) -> int:
        """The number after which the last `count` records start; 0 when there are not more than those."""
        for segment in reversed(manifest.segments):
            if count >= segment.records:
                count -= segment.records
            elif count <= 0 or segment.records == segment.last - segment.first + 1:
                return segment.last - count
            else:  # with gaps in it, only counting tells
                alone = Manifest(attempt=manifest.attempt, segments=[segment])
                starts = [mark_of(line).start async for batch in self.read(alone, segment.first - 1) for line in batch]
                return starts[-count:][0] - 1
        return 0

    async def _manifest(self, folder: str, limit: asyncio.Semaphore) -> Manifest | None:
        """The manifest in `folder`; None when it is damaged, of another folder, or not there yet."""
        path = f"{folder}/manifest.json"
        async with limit:
            text = await self._objects.get(path)
        if text is None:
            return None
        try:
            manifest = Manifest.from_json(text)
        except ArchiveError as error:
            complain("an attempt is left out", ArchiveError(f"{path} is {error}"))
            return None
        return manifest if manifest.path == folder else None


def pack_segment(lines: Sequence[bytes], first: int, last: int) -> tuple[Segment, bytes]:
    """Pack encoded records; give what a manifest says of the segment, and its bytes.

    :param lines: the records in the order of their numbers, without newlines; at least one.
    :param first: the number at which the first record starts.
    :param last: the number of the last record.
    """
    data, starts = seekable.pack(lines)
    segment = Segment(
        name=f"{first}.jsonl.zst",
        first=first,
        last=last,
        records=len(lines),
        raw_bytes=sum(map(len, lines)) + len(lines),
        size=len(data),
        crc32=zlib.crc32(data),
        frames=[mark_of(lines[start]).start for start in starts],
    )
    return segment, data
