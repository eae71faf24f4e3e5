"""What a reader reads from: archive, catalog, live stream; and what it means when one of them does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable
from typing import Any, TypeVar

from msgspec.structs import asdict, replace
from sqlalchemy.exc import SQLAlchemyError

from celery_livelog.asking import Asking
from celery_livelog.attempts import Attempt
from celery_livelog.endings import of_lapse
from celery_livelog.errors import ArchiveError, SchemaError, StoreError, complain
from celery_livelog.reader.disks import Disks
from celery_livelog.reader.hub import Hub
from celery_livelog.reader.portions import Entry, Portion, numbered
from celery_livelog.settings import Settings
from celery_livelog.stores.archive import Archive, Manifest
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.stream import RedisError
from celery_livelog.stores.stream_reader import StreamReader

T = TypeVar("T")

#: Entries of the index that are searched for a task that nothing else knows.
_INDEX = 2000
#: Entries at a stream's end that tell how far each attempt in it has come.
NEWEST = 200


class Sources:
    """The stores of one process that serves logs, on one event loop.

    Raises `StoreError` when Redis does not answer. An archive or catalog that cannot be read is said on stderr and
    taken as empty: they may be another host's.

    :param app: the Celery app whose workers can be asked for archives that only they can read.
    """

    def __init__(self, settings: Settings, app: Any = None) -> None:
        self._archive = Archive(settings.archive_url)
        self._catalog = Catalog(settings.database_url)
        #: Of many who follow one task, each asks the same at the same time.
        self._asking = Asking[Any]()
        self._stream: StreamReader | None = None
        #: What follows the streams; None without a Redis.
        self.hub: Hub | None = None
        if settings.redis_url is not None:
            self._stream = StreamReader(settings.redis_url, settings.key_prefix)
            self.hub = Hub(self._stream)
        #: Archives that lie elsewhere.
        self.disks = Disks(settings, self._stream, app)

    async def ask(self, question: Callable[[Catalog], T], name: Hashable = None) -> T:
        """What the catalog answers.

        :param name: what the question is about; those who ask it by the same name at a time share the answer.
        :raises StoreError: when it cannot be read.
        """
        if name is None:
            return await self._ask(question)
        answer: T = await self._asking.ask(("catalog", name), lambda: self._ask(question))
        return answer

    async def _ask(self, question: Callable[[Catalog], T]) -> T:
        try:
            return await asyncio.to_thread(question, self._catalog)
        except (SQLAlchemyError, SchemaError, OSError) as error:
            said = error if isinstance(error, SchemaError) else f"the catalog cannot be read: {_short(error)}"
            raise StoreError(str(said)) from error

    async def rows(self, task_id: str) -> list[Attempt]:
        """The catalog's attempts of a task, in order of start."""
        return await self._rows(lambda catalog: catalog.attempts(task_id), ("rows", task_id))

    async def recent_rows(self, limit: int, account: str | None = None, site: str | None = None) -> list[Attempt]:
        """The catalog's latest attempts, newest first; of an account and a site, if given."""
        return await self._rows(lambda catalog: catalog.recent(limit, account=account, site=site))

    async def indexed(self, count: int) -> list[Attempt]:
        """The last beginnings and endings that Redis knows of, newest first."""
        if self._stream is None:
            return []
        recent = self._stream.recent
        found: list[Attempt] = await self._asking.ask(("index", count), lambda: _asked(recent(count)))
        return found

    async def indexed_of(self, task_id: str) -> list[Attempt]:
        """What Redis' index knows of a task's attempts."""
        return [attempt for attempt in await self.indexed(_INDEX) if attempt.task_id == task_id]

    async def portions(self, task_id: str, last_id: str) -> list[Portion]:
        """What comes next in a task's stream after an id; empty when there is no more."""
        return [] if self.hub is None else await _asked(self.hub.pages.after(task_id, last_id))

    async def attempts(self, task_id: str) -> list[Attempt]:
        """All that is known of a task's attempts, in order of start."""
        attempts: list[Attempt] = await self._asking.ask(("attempts", task_id), lambda: self._attempts(task_id))
        return attempts

    async def _attempts(self, task_id: str) -> list[Attempt]:
        known = {attempt.attempt: attempt for attempt in await self.rows(task_id)}
        for manifest in (await self.manifests(task_id)).values():
            learn(known, manifest.attempt)
        in_stream = await self.newest(task_id)
        if not in_stream.keys() <= known.keys() or self.disks.may_have_more(known.values()):
            for attempt in await self.indexed_of(task_id):
                learn(known, attempt)
        for name in in_stream:
            known.setdefault(name, Attempt(attempt=name, task_id=task_id))
        return await self.judged(sorted(known.values(), key=lambda attempt: attempt.started))

    async def judged(self, attempts: list[Attempt]) -> list[Attempt]:
        """The attempts, those that seem to run on a worker that nothing is heard of as lost."""
        lapsed = await self.lapsed({attempt.lease for attempt in attempts if attempt.running and attempt.lease})
        return [_lost(attempt) if attempt.running and attempt.lease in lapsed else attempt for attempt in attempts]

    async def lapsed(self, leases: Collection[str]) -> set[str]:
        """Which of these leases nobody keeps up; none without a Redis, where nobody can tell."""
        if not leases or self._stream is None:
            return set()
        lapsed, named = self._stream.lapsed, frozenset(leases)
        found: set[str] = await self._asking.ask(("lapsed", named), lambda: _asked(lapsed(named)))
        return found

    async def newest(self, task_id: str) -> dict[str, int]:
        """The last number of each attempt at the end of the stream."""
        return numbered(await self.last_entries(task_id, NEWEST))

    async def last_entries(self, task_id: str, count: int) -> list[Entry]:
        """The last entries of a task's stream, in their order."""
        if self._stream is None:
            return []
        newest = self._stream.newest
        found: list[Entry] = await self._asking.ask(("last", task_id, count), lambda: _asked(newest(task_id, count)))
        return found[::-1]

    async def manifests(self, task_id: str) -> dict[str, Manifest]:
        """What the archive holds of a task, by attempt in order of start."""
        found: dict[str, Manifest] = await self._asking.ask(("manifests", task_id), lambda: self._manifests(task_id))
        return found

    async def _manifests(self, task_id: str) -> dict[str, Manifest]:
        try:
            return {manifest.attempt.attempt: manifest for manifest in await self._archive.manifests(task_id)}
        except ArchiveError as error:
            complain("the archive cannot be read", error)
            return {}

    async def archived(self, manifest: Manifest, after: int) -> AsyncIterator[list[bytes]]:
        """Encoded records that the archive holds of an attempt, after a number."""
        try:
            async for lines in self._archive.read(manifest, after):
                yield lines
        except ArchiveError as error:
            complain("the archive cannot be read", error)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._asking.close()
        if self.hub is not None:
            await self.hub.close()
        await self.disks.close()
        if self._stream is not None:
            await self._stream.close()
        self._catalog.close()

    async def _rows(self, question: Callable[[Catalog], list[Attempt]], name: Hashable = None) -> list[Attempt]:
        try:
            return await self.ask(question, name)
        except StoreError as error:
            complain("attempts are not read from the catalog", error)
            return []


def learn(known: dict[str, Attempt], attempt: Attempt) -> None:
    """Keep what says most of an attempt: how it ended, and then where it is archived."""
    before = known.get(attempt.attempt)
    if before is None or (before.running and not attempt.running) or (attempt.archive and not before.archive):
        known[attempt.attempt] = attempt


def _lost(attempt: Attempt) -> Attempt:
    return replace(attempt, **asdict(of_lapse()))


def _short(error: Exception) -> str:
    """What a driver says, in one line and without SQLAlchemy's explanations."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


async def _asked(question: Awaitable[T]) -> T:
    try:
        return await question
    except RedisError as error:
        raise StoreError(f"Redis does not answer: {error}") from error
