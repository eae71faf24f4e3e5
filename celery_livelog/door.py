"""A reader of what a viewer may see. All else is as if it did not exist, and is asked for in the same way.

Rules:
- what is another's and what is nobody's lead to the same questions to the same stores, and to the same answer;
- of a task, catalog and index say whose it is; what neither of them knows is nobody's;
- of a task that was tried several times, all attempts must lie in the scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType

from celery_livelog.attempts import Attempt
from celery_livelog.cursors import Cursor
from celery_livelog.merge import Batch
from celery_livelog.permissions import OWNER, Everything, Scope, Viewer
from celery_livelog.reader import Reader
from celery_livelog.run_reader import RunReader
from celery_livelog.runs import RunView, Stage

#: Seconds between two looks whether a task that is waited for has started.
_LOOK_SECONDS = 1.0


def reader_for(reader: Reader, viewer: Viewer) -> Reader:
    """A reader of what a viewer may see."""
    return reader if isinstance(viewer.seen, Everything) else ScopedReader(reader, viewer.seen)


class ScopedReader(Reader):
    """Reads tasks and runs that lie in one of some scopes, over the connections of another reader."""

    def __init__(self, reader: Reader, seen: Sequence[Scope]) -> None:
        self._reader = reader
        self._sources = reader._sources
        self._seen = seen
        self._scoped = ScopedRuns(reader.runs, seen)
        self.runs = self._scoped

    async def recent(self, limit: int = 100, *, account: str | None = None, site: str | None = None) -> list[Attempt]:
        known: dict[str, Attempt] = {}
        for scope in self._seen:
            for attempt in await self._recent(scope, limit):
                if account in (None, attempt.account) and site in (None, attempt.site):
                    known[attempt.attempt] = attempt
        return sorted(known.values(), key=lambda attempt: attempt.started, reverse=True)[:limit]

    async def attempts(self, task_id: str) -> list[Attempt]:
        return await self._reader.attempts(task_id) if await self._holds(task_id) else []

    async def log(
        self,
        task_id: str,
        *,
        after: Cursor | None = None,
        tail: int | None = None,
        attempt: int | None = None,
        follow: bool = False,
    ) -> AsyncGenerator[Batch, None]:
        while not await self._holds(task_id):
            if not follow:
                return
            await asyncio.sleep(_LOOK_SECONDS)
        log = self._reader.log(task_id, after=after, tail=tail, attempt=attempt, follow=follow)
        async with aclosing(log) as batches:
            async for batch in batches:
                yield batch

    async def close(self) -> None:
        """Nothing: the connections are the other reader's."""

    async def _recent(self, scope: Scope, limit: int) -> list[Attempt]:
        if not scope.owners:
            return await self._reader.recent(limit, account=scope.account, site=scope.site)
        attempts: list[Attempt] = []
        for run in await self._scoped.recent(limit):
            attempts += await self._scoped.attempts(run.run_id)
            if len(attempts) >= limit:
                break
        return attempts

    async def _holds(self, task_id: str) -> bool:
        """Whether a task is in scope. Who may see it is answered by the catalog alone; all others by the same two."""
        known = await self._sources.rows(task_id)
        if await self._in_scope(task_id, known):
            return True
        return await self._in_scope(task_id, known + await self._sources.indexed_of(task_id))

    async def _in_scope(self, task_id: str, attempts: Sequence[Attempt]) -> bool:
        run_ids = {attempt.run_id for attempt in attempts}
        run_id = run_ids.pop() if len(run_ids) == 1 else task_id  # to ask for, whether there is one or not
        for scope in self._seen:
            holds = bool(attempts) and all(scope.holds(attempt.account, attempt.site) for attempt in attempts)
            if scope.owners and await self._scoped.in_scope(scope, run_id) is None:
                holds = False
            if holds:
                return True
        return False


class ScopedRuns(RunReader):
    """Reads the runs that lie in one of some scopes."""

    def __init__(self, runs: RunReader, seen: Sequence[Scope]) -> None:
        super().__init__(runs._sources)
        self._runs = runs
        self._seen = seen

    def within(self, account: str | None = None, site: str | None = None) -> RunReader:
        return ScopedRuns(self._runs.within(account, site), self._seen)

    async def recent(
        self,
        limit: int = 100,
        *,
        before: str | None = None,
        account: str | None = None,
        site: str | None = None,
        fields: Mapping[str, str] = MappingProxyType({}),
    ) -> list[RunView]:
        known: dict[tuple[str, str, str], RunView] = {}
        for scope in self._seen:
            runs = self._runs.within(scope.account, scope.site)
            for wanted in _wanted(scope, fields):
                for run in await runs.recent(limit, before=before, account=account, site=site, fields=wanted):
                    known[run.run_id, run.account, run.site] = run
        return sorted(known.values(), key=lambda run: (run.started, run.run_id), reverse=True)[:limit]

    async def get(self, run_id: str, *, fields: Mapping[str, str] = MappingProxyType({})) -> RunView | None:
        found = await self._found(run_id, fields)
        return None if found is None else found[0]

    async def attempts(self, run_id: str) -> list[Attempt]:
        found = await self._found(run_id)
        return [] if found is None else await found[1].attempts(run_id)

    async def stages(self, run_id: str) -> list[Stage]:
        found = await self._found(run_id)
        return [] if found is None else await found[1].stages(run_id)

    async def in_scope(
        self, scope: Scope, run_id: str, fields: Mapping[str, str] = MappingProxyType({})
    ) -> RunView | None:
        """The run with this id in one scope."""
        runs = self._runs.within(scope.account, scope.site)
        for wanted in _wanted(scope, fields):
            view = await runs.get(run_id, fields=wanted)
            if view is not None:
                return view
        return None

    async def _found(
        self, run_id: str, fields: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[RunView, RunReader] | None:
        """A run, and the reader of what belongs to it."""
        for scope in self._seen:
            view = await self.in_scope(scope, run_id, fields)
            if view is not None:
                # Tasks and stages know no owner: what is an owner's is so by the run, which is of one account and site.
                of_run = (view.account, view.site) if scope.owners else (scope.account, scope.site)
                return view, self._runs.within(*of_run)
        return None


def _wanted(scope: Scope, fields: Mapping[str, str]) -> list[dict[str, str]]:
    """The fields to ask for: those that were asked for, and one of the owner's if the scope has an owner."""
    if not scope.owners:
        return [dict(fields)]
    owners = [owner for owner in sorted(scope.owners) if fields.get(OWNER, owner) == owner]
    return [{**fields, OWNER: owner} for owner in owners]
