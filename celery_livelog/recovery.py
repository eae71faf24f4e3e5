"""Finishes the logs of lost attempts: what archive and stream hold of them becomes complete, with an end that says so.

For hosts that do not come back. One that does ships its journals as ever, and what it has replaces what is made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from celery_livelog.attempts import Attempt
from celery_livelog.endings import LOST
from celery_livelog.reader import Reader
from celery_livelog.records import End, Gap, Line, Record, encode
from celery_livelog.selection import Joiner
from celery_livelog.settings import Settings
from celery_livelog.stores.archive import Archive, Manifest
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.stream_writer import Parcel, StreamWriter

#: Attempts, newest first, among which lost ones are looked for.
_RECENT = 2000
_SEGMENT_BYTES = 1024 * 1024


@dataclass
class _Found:
    """What there is of an attempt: the records beyond `archived`, and the counts of all."""

    archived: int
    lines: list[bytes] = field(default_factory=list)
    marks: list[tuple[int, int]] = field(default_factory=list)
    printed: int = 0
    bytes: int = 0
    skipped: int = 0
    end: End | None = None

    def add(self, record: Record) -> None:
        """Take the next record."""
        if record.n > self.archived:
            self.lines.append(encode(record))
            self.marks.append((record.first if isinstance(record, Gap) else record.n, record.n))
        if isinstance(record, Line):
            self.printed += 1
            self.bytes += len(record.line) + 1
        elif isinstance(record, Gap):
            self.skipped += record.skipped
        elif isinstance(record, End):
            self.end = record


class Recovery:
    """Recovers for one command.

    :raises ArchiveError, StoreError, SQLAlchemyError: from its methods, when a store fails; doing it again is harmless.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._archive = Archive(settings.archive_url)

    async def lost(self, reader: Reader, task_ids: Iterable[str] = ()) -> list[Attempt]:
        """The attempts, of these tasks or of all recent ones, that run on workers of which nothing is heard."""
        task_ids = list(task_ids)
        if task_ids:
            attempts = [attempt for task_id in task_ids for attempt in await reader.attempts(task_id)]
        else:
            attempts = await reader.recent(_RECENT)
        return [attempt for attempt in attempts if attempt.state == LOST and not attempt.ended]

    async def recover_all(self, reader: Reader, task_ids: Iterable[str] = ()) -> list[Attempt]:
        """Recover what is `lost`; give the attempts as they are known then."""
        return [await self.recover(reader, attempt) for attempt in await self.lost(reader, task_ids)]

    async def recover(self, reader: Reader, attempt: Attempt) -> Attempt:
        """Archive what there is of a lost attempt, and say in catalog and stream that it is over."""
        manifests = await self._archive.manifests(attempt.task_id)
        before = next((found for found in manifests if found.attempt.attempt == attempt.attempt), None)
        manifest = before or Manifest(attempt=attempt)
        found = await self._beyond(reader, attempt, manifest.segments[-1].last if manifest.segments else 0)
        if found.end is None:
            return attempt  # it has ended meanwhile
        recovered = replace(
            attempt,
            ended=found.end.timestamp,
            lines=found.printed,
            bytes=found.bytes,
            skipped=found.skipped,
            archive=self._archive.place(attempt.task_id, attempt.attempt),
        )
        await asyncio.to_thread(self._store, recovered, manifest, found)
        return recovered

    async def _beyond(self, reader: Reader, attempt: Attempt, archived: int) -> _Found:
        found, joiner = _Found(archived), Joiner()
        async for batch in reader.log(attempt.task_id):
            for record in batch.records if batch.attempt == attempt.attempt else ():
                whole = joiner.feed(batch.number, record)
                if whole is not None:
                    found.add(whole)
        return found

    def _store(self, attempt: Attempt, manifest: Manifest, found: _Found) -> None:
        segments, start, size = list(manifest.segments), 0, 0
        for at, line in enumerate(found.lines, 1):
            size += len(line)
            if size >= _SEGMENT_BYTES or at == len(found.lines):
                first, last = found.marks[start][0], found.marks[at - 1][1]
                lines = found.lines[start:at]
                segments.append(self._archive.put_segment(attempt.task_id, attempt.attempt, lines, first, last))
                start, size = at, 0
        self._archive.put_manifest(Manifest(attempt=attempt, segments=segments, complete=True))
        catalog = Catalog(self._settings.database_url)
        catalog.write([attempt])
        catalog.close()
        if self._settings.redis_url is not None and found.end is not None:
            self._tell(attempt, found.end)

    def _tell(self, attempt: Attempt, end: End) -> None:
        settings = self._settings
        assert settings.redis_url is not None
        writer = StreamWriter(settings.redis_url, settings.key_prefix, settings.maxlen, settings.expires)
        writer.send([Parcel(attempt.task_id, attempt.attempt, [end], False, attempt)])
        if settings.archive_shared:
            writer.expire_soon(attempt.task_id)
        writer.close()
