"""The archive here, as a shipper elsewhere asks for it; see `stores.requests`. For any thread.

Nothing that it says is believed: paths come from ids, ids from who it is, and a segment is unpacked and read before it
is put.
"""

from __future__ import annotations

from typing import Any

import msgspec

from celery_livelog.ingest import writers
from celery_livelog.ingest.known import Known
from celery_livelog.ingest.messages import BadMessage
from celery_livelog.stores.archive import Archive
from celery_livelog.stores.log_check import difference
from celery_livelog.stores.manifest import Manifest, Segment
from celery_livelog.stores.requests import ArchiveRequest, PutManifest, PutSegment, Segments

#: Bytes that a segment may unpack to.
_UNPACKED = 64 * 1024 * 1024

_read_segments = msgspec.json.Decoder(list[Segment]).decode


class ShippedArchive:
    """Does what is asked as that writer may.

    :raises NotYours: from `do`, when a writer may not.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def do(self, known: Known, request: ArchiveRequest, body: bytes) -> Any:
        """Do what is asked; give the answer's value."""
        if isinstance(request, PutManifest):
            return self._put_manifest(known, Manifest.from_json(body), tidy=request.tidy)
        known.allow(request.task_id)
        attempt = writers.own_id(known.writer, request.task_id, request.attempt)
        if isinstance(request, Segments):
            return self._archive.segments(request.task_id, attempt)
        if isinstance(request, PutSegment):
            return self._put_segment(request, attempt, body)
        segments = _read_segments(body)
        _check(segments)
        return self._archive.has(request.task_id, attempt, segments)

    def _put_segment(self, request: PutSegment, attempt: str, body: bytes) -> None:
        segment = request.segment
        _check([segment])
        what = difference(segment, body)
        if what:
            raise BadMessage(f"segment {segment.name} is not what it is said to be: {what}")
        self._archive.put_packed(request.task_id, attempt, segment, body)

    def _put_manifest(self, known: Known, manifest: Manifest, *, tidy: bool) -> None:
        given = manifest.attempt
        known.allow(given.task_id, given.account)
        _check(manifest.segments)
        own = writers.own_id(known.writer, given.task_id, given.attempt)
        place = self._archive.place(given.task_id, own) if given.archive else ""
        manifest.attempt = writers.own_attempt(known.writer, given, place)
        if tidy:
            self._archive.tidy(manifest)
        elif self._archive.has(given.task_id, own, manifest.segments[-1:]):
            self._archive.put_manifest(manifest)
        else:
            raise BadMessage("a manifest whose last segment is not there; expected that to be put before")


def _check(segments: list[Segment]) -> None:
    """Have segments be in order, each under the one name that it can have."""
    reached = 0
    for segment in segments:
        first, last, frames = segment.first, segment.last, segment.frames
        named = segment.name == f"{first}.jsonl.zst" and reached < first <= last
        framed = bool(frames) and frames[0] == first and frames[-1] <= last and frames == sorted(set(frames))
        if not (named and framed and 0 < segment.raw_bytes <= _UNPACKED and segment.records <= last - first + 1):
            raise BadMessage(f"{segment.name[:60]!r} cannot be a segment of records {first} to {last}")
        reached = last
