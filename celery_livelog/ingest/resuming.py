"""What the stores hold of an attempt that goes on in this process."""

from __future__ import annotations

from msgspec.structs import replace

from celery_livelog.attempts import Attempt
from celery_livelog.reader import Reader
from celery_livelog.records import End, Gap, Partial, Record
from celery_livelog.selection import Joiner
from celery_livelog.settings import Settings
from celery_livelog.stores.archive import Archive


class Resuming:
    """Reads on one event loop. Raises `StoreError` when Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._reader = Reader(settings)
        self._archive = Archive(settings.archive_url)

    async def attempts(self, task_id: str) -> list[Attempt]:
        """All attempts of a task in order of start."""
        return await self._reader.attempts(task_id)

    async def last_n(self, attempt: Attempt) -> int:
        """The number of the last record of an attempt that goes on, if it is the task's last."""
        last = 0
        async for batch in self._reader.log(attempt.task_id, tail=1):
            numbers = [record.n for record in batch.records if not isinstance(record, (End, Partial))]
            last = numbers[-1] if batch.attempt == attempt.attempt and numbers else last
        return last

    async def records(self, attempt: Attempt) -> tuple[list[Record], list[Record]]:
        """All records of an attempt without an end, and those that the archive lacks."""
        # An end is one that the reader has made for what seems lost.
        found: list[Record] = [record for record in await self.whole(attempt) if not isinstance(record, End)]
        archived = await self._archived(attempt)
        lacking = [record for record in found if record.n > archived]
        if lacking and isinstance(first := lacking[0], Gap) and first.first <= archived:
            lacking[0] = replace(first, first=archived + 1, skipped=first.n - archived)
        return found, lacking

    async def whole(self, attempt: Attempt) -> list[Record]:
        """All records of an attempt."""
        found, joiner = list[Record](), Joiner()
        async for batch in self._reader.log(attempt.task_id):
            for record in batch.records if batch.attempt == attempt.attempt else ():
                whole = joiner.feed(batch.number, record)
                if whole is not None and not isinstance(whole, Partial):
                    found.append(whole)
        return found

    async def close(self) -> None:
        """Let go of all connections."""
        await self._reader.close()

    async def _archived(self, attempt: Attempt) -> int:
        """The last number that the archive has."""
        for manifest in await self._archive.manifests(attempt.task_id):
            if manifest.attempt.attempt == attempt.attempt and manifest.segments:
                return manifest.segments[-1].last
        return 0
