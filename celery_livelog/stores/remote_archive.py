"""The archive of a relay's, as the archive sink writes it. What was put counts once the relay has checked it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from celery_livelog.stores.link import Link
from celery_livelog.stores.manifest import Manifest, Segment
from celery_livelog.stores.requests import HasSegments, PutManifest, PutSegment, Segments, encode

#: Seconds that an answer may take: the relay's own store may be far off.
_TIMEOUT = 60.0


class RemoteArchive:
    """Does what `Archive` does for who writes."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def place(self, task_id: str, attempt: str) -> str:
        """Where the log of an attempt is; the relay knows better."""
        return self._link.name

    def put_packed(self, task_id: str, attempt: str, segment: Segment, data: bytes) -> None:
        """Store a segment."""
        self._link.ask(PutSegment(task_id=task_id, attempt=attempt, segment=segment), data, timeout=_TIMEOUT)

    def put_manifest(self, manifest: Manifest) -> None:
        """Store what the archive holds of an attempt now."""
        self._link.ask(PutManifest(), manifest.to_json(), timeout=_TIMEOUT)

    def segments(self, task_id: str, attempt: str) -> list[Segment]:
        """What the manifest of an attempt names."""
        given = self._link.ask(Segments(task_id=task_id, attempt=attempt), timeout=_TIMEOUT)
        return msgspec.convert(given, list[Segment])

    def has(self, task_id: str, attempt: str, segments: Sequence[Segment]) -> bool:
        """Whether segments that were put are still there, as long as they were."""
        asked = HasSegments(task_id=task_id, attempt=attempt)
        return bool(self._link.ask(asked, encode(segments), timeout=_TIMEOUT))

    def tidy(self, manifest: Manifest) -> None:
        """Delete what the folder of an attempt holds beside this, its last manifest and its segments."""
        self._link.ask(PutManifest(tidy=True), manifest.to_json(), timeout=_TIMEOUT)
