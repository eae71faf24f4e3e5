"""Reads logs: archive segments first, then the live stream, by one cursor, without hole or double.

Knows nothing of browsers, terminals or HTTP. This reader shows everything, so windows read by what `door.reader_for`
makes of it for a viewer. The `action` is what that viewer does; only the door looks at it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from celery_livelog.access.rule import Rule
from celery_livelog.attempts import Attempt
from celery_livelog.cursors import Cursor
from celery_livelog.permissions import LIST
from celery_livelog.reader.merge import Batch
from celery_livelog.reader.reading import Reading
from celery_livelog.reader.run_reader import RunReader
from celery_livelog.reader.sources import Sources, learn
from celery_livelog.settings import Settings

__all__ = ["Batch", "Reader"]


class Reader:
    """Reads logs for one process that serves them, on one event loop.

    All of it raises `StoreError` when Redis does not answer.

    :param app: the Celery app, if there is one; its workers are asked for archives that only they can read.
    :raises SettingsError: when the site's rule, ``livelog_permission``, cannot be imported.
    """

    def __init__(self, settings: Settings, app: Any = None) -> None:
        self.rule = Rule(settings.permission)
        self._sources = Sources(settings, app)
        #: Which runs there are, and what is known of them.
        self.runs = RunReader(self._sources)

    async def recent(self, limit: int = 100, *, account: str | None = None, site: str | None = None) -> list[Attempt]:
        """The attempts that started last, newest first, from catalog and index together.

        :param account: only those of this account.
        :param site: only those of this site.
        """
        known = {attempt.attempt: attempt for attempt in await self._sources.recent_rows(limit, account, site)}
        for attempt in await self._sources.indexed(2 * limit):
            if account in (None, attempt.account) and site in (None, attempt.site):
                learn(known, attempt)
        newest = sorted(known.values(), key=lambda attempt: attempt.started, reverse=True)[:limit]
        return await self._sources.judged(newest)

    async def attempts(self, task_id: str, *, action: str = LIST) -> list[Attempt]:
        """All attempts of a task in order of start; empty when nothing is known of it."""
        return await self._sources.attempts(task_id)

    async def log(
        self,
        task_id: str,
        *,
        after: Cursor | None = None,
        tail: int | None = None,
        attempt: int | None = None,
        follow: bool = False,
        action: str | None = None,
        pulse: bool = False,
    ) -> AsyncGenerator[Batch, None]:
        """Give a task's records, each once, holes as gaps.

        :param after: go on behind this place, in its attempt and those that started later.
        :param tail: only the last so many records.
        :param attempt: only this attempt: 1, 2, 3 in order of start.
        :param follow: go on until the task's last attempt has ended; wait for a task that has not started.
        :param action: DOWNLOAD or SEARCH; if not given, it is LIVE for one that follows, else ARCHIVE.
        :param pulse: give an empty batch now and then while nothing comes, so that the caller can look elsewhere.
        """
        attempts = await self.attempts(task_id)
        reading = Reading(self._sources, task_id, attempts)
        if after is not None:
            # Of one that only the stream knows it is not known whether it runs.
            running = {known.attempt for known in attempts if known.running and known.started}
            reading.begin(await reading.starting.after(after, running))
        elif tail is not None:
            reading.begin(await reading.starting.before_end(tail, attempt, partials=follow))
        async for batch in reading.present(partials=follow):
            if batch.records and attempt in (None, batch.number):
                yield batch
        if follow:
            async with aclosing(reading.coming()) as coming:
                async for batch in coming:
                    if (batch.records and attempt in (None, batch.number)) or (pulse and not batch.records):
                        yield batch
            attempts = await self.attempts(task_id)
        for batch in reading.untold(attempts):
            if attempt in (None, batch.number):
                yield batch

    async def close(self) -> None:
        """Let go of all connections."""
        self.rule.close()
        await self._sources.close()
