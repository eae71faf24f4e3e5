"""The attempts of one task whose logs neither archive nor stream have here: read from their workers' own disks.

What cannot be read leaves a gap that says where it is, and the end that is known: never an empty log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from celery_livelog.attempts import Attempt
from celery_livelog.errors import ArchiveError
from celery_livelog.reader.merge import Batch, Merge, gap_of
from celery_livelog.reader.sources import Sources
from celery_livelog.records import End, decode
from celery_livelog.stores.manifest import Manifest


class FarAway:
    """What is elsewhere of a reading.

    :param attempts: what is known of the task's attempts.
    :param merge: where the reading stands.
    """

    def __init__(self, sources: Sources, task_id: str, attempts: list[Attempt], merge: Merge) -> None:
        self._sources = sources
        self._task_id = task_id
        self._merge = merge
        self.attempts = attempts
        #: The attempts of which nothing more is to be had.
        self.read: set[str] = set()

    async def missing(self, found: Collection[str] = ()) -> list[Attempt]:
        """Attempts that printed something and have ended, but whose end was not read; without those `found`.

        One that only waits for the archive here is not missing.
        """
        ended = [
            attempt
            for attempt in self.attempts
            if attempt.ended and attempt.lines and attempt.attempt not in {*found, *self.read}
            if self._merge.of(attempt.attempt).end is None
        ]
        if not ended:
            return []
        here = (await self._sources.manifests(self._task_id)).keys()
        waiting = {row.attempt for row in await self._sources.rows(self._task_id) if not row.archive}
        return [attempt for attempt in ended if attempt.attempt not in here | waiting]

    async def extents(self, found: Collection[str]) -> dict[str, int]:
        """The last numbers of those that are missing, as far as can be told."""
        return {attempt.attempt: _last(attempt, await self._manifest(attempt)) for attempt in await self.missing(found)}

    def pass_over(self, name: str) -> int:
        """Leave out an attempt, if its log is nowhere here; give about how far it goes."""
        self.read.add(name)
        return next((attempt.lines for attempt in self.attempts if attempt.attempt == name), 0)

    async def rest(self) -> AsyncIterator[Batch]:
        """What is missing, or in its place a gap and the end that is known of it."""
        for attempt in await self.missing():
            name = attempt.attempt
            async for batch in self.log(name):
                yield batch
            self.read.add(name)
            progress = self._merge.of(name)
            if progress.end is None and progress.note:
                last = max(progress.n + 1, attempt.lines)
                gap = gap_of(progress.n + 1, last, attempt.ended, "elsewhere", progress.note)
                yield self._merge.accept(name, [gap, _end(attempt, last + 1)])

    async def log(self, name: str) -> AsyncIterator[Batch]:
        """The log of an attempt from where the reading stands in it; why it cannot be read is noted."""
        attempt = next((known for known in self.attempts if known.attempt == name), None)
        manifest = await self._manifest(attempt) if attempt is not None else None
        if manifest is None:
            return
        progress = self._merge.of(name)
        try:
            async for lines in self._sources.disks.read(manifest, progress.n):
                yield self._merge.accept(name, map(decode, lines))
        except ArchiveError as error:
            progress.note = str(error)

    async def _manifest(self, attempt: Attempt) -> Manifest | None:
        try:
            return await self._sources.disks.manifest(attempt)
        except ArchiveError as error:
            self._merge.of(attempt.attempt).note = str(error)
            return None


def _last(attempt: Attempt, manifest: Manifest | None) -> int:
    """The number of an attempt's last record: its end, behind at least as many lines as it has printed."""
    return manifest.segments[-1].last if manifest is not None and manifest.segments else attempt.lines + 1


def _end(attempt: Attempt, n: int) -> End:
    return End(
        n=n,
        timestamp=attempt.ended,
        state=attempt.state,
        exit_code=attempt.exit_code or 0,
        reason=attempt.reason,
    )
