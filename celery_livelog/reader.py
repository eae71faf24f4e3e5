"""The one door to logs: archive segments first, then the live stream, by one cursor, without hole or double.

Knows nothing of browsers, terminals or HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from celery_livelog.attempts import Attempt
from celery_livelog.merge import Batch
from celery_livelog.reading import Reading
from celery_livelog.records import Cursor
from celery_livelog.settings import Settings
from celery_livelog.sources import Sources

__all__ = ["Batch", "Reader"]

#: Entries of the index that are searched for a task that nothing else knows.
_INDEX = 2000


class Reader:
    """Reads logs for one process that serves them, on one event loop.

    All of it raises `StoreError` when Redis does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._sources = Sources(settings)

    async def recent(self, limit: int = 100) -> list[Attempt]:
        """The attempts that started last, newest first, from catalog and index together."""
        known = {attempt.attempt: attempt for attempt in await self._sources.recent_rows(limit)}
        for attempt in await self._sources.indexed(2 * limit):
            _learn(known, attempt)
        return sorted(known.values(), key=lambda attempt: attempt.started, reverse=True)[:limit]

    async def attempts(self, task_id: str) -> list[Attempt]:
        """All attempts of a task in order of start; empty when nothing is known of it."""
        known = {attempt.attempt: attempt for attempt in await self._sources.rows(task_id)}
        for manifest in (await self._sources.manifests(task_id)).values():
            _learn(known, manifest.attempt)
        in_stream = await self._sources.newest(task_id)
        if not in_stream.keys() <= known.keys():
            for attempt in await self._sources.indexed(_INDEX):
                if attempt.task_id == task_id:
                    _learn(known, attempt)
        for name in in_stream:
            known.setdefault(name, Attempt(attempt=name, task_id=task_id))
        return sorted(known.values(), key=lambda attempt: attempt.started)

    async def log(
        self,
        task_id: str,
        *,
        after: Cursor | None = None,
        tail: int | None = None,
        attempt: int | None = None,
        follow: bool = False,
    ) -> AsyncGenerator[Batch, None]:
        """Give a task's records, each once, holes as gaps.

        :param after: go on behind this place, in its attempt and those that started later.
        :param tail: only the last so many records.
        :param attempt: only this attempt: 1, 2, 3 in order of start.
        :param follow: go on until the task's last attempt has ended; wait for a task that has not started.
        """
        reading = Reading(self._sources, task_id, [known.attempt for known in await self.attempts(task_id)])
        if after is not None:
            await reading.start_after(after)
        elif tail is not None:
            await reading.start_before_end(tail, attempt)
        async for batch in reading.present(partials=follow):
            if batch.records and attempt in (None, batch.number):
                yield batch
        if not follow:
            return
        async for batch in reading.coming():
            if batch.records and attempt in (None, batch.number):
                yield batch

    async def close(self) -> None:
        """Let go of all connections."""
        await self._sources.close()


def _learn(known: dict[str, Attempt], attempt: Attempt) -> None:
    """Keep what says most of an attempt: how it ended, and then where it is archived."""
    before = known.get(attempt.attempt)
    if before is None or (before.running and not attempt.running) or (attempt.archive and not before.archive):
        known[attempt.attempt] = attempt
