"""The one door: a reader of what a viewer may see. All else is as if it did not exist, and is asked for likewise.

Rules:
- what is another's, what the site's rule hides and what is nobody's lead to the same questions, and to the same answer;
- of a task, catalog and index say whose it is; what neither of them knows is nobody's;
- of a task that was tried several times, all attempts must lie in the scope, and the rule must allow all;
- what is allowed is asked again while a log is read, and for each attempt that joins it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from celery_livelog.access.bounds import Bounds, filled
from celery_livelog.access.standing import Standing
from celery_livelog.attempts import Attempt
from celery_livelog.cursors import Cursor
from celery_livelog.errors import AccessError
from celery_livelog.permissions import ARCHIVE, LIST, LIVE, SEARCH, Everything, Scope, Viewer
from celery_livelog.reader import Reader
from celery_livelog.reader.guarded_runs import GuardedRuns
from celery_livelog.reader.merge import Batch
from celery_livelog.reader.sources import learn

#: Seconds between two looks whether a task that is waited for has started.
_LOOK_SECONDS = 1.0
#: Looks for what is known of an attempt that has joined a log.
_LOOKS = 3

_ENDED = "this log may not be seen any longer"


def reader_for(reader: Reader, viewer: Viewer) -> Reader:
    """A reader of what a viewer may see. There is no other way to one."""
    if isinstance(viewer.seen, Everything) and viewer.expires is None and not reader.rule:
        return reader
    return GuardedReader(reader, Bounds(viewer, reader.rule))


class GuardedReader(Reader):
    """Reads tasks and runs within the bounds of a viewer, over the connections of another reader.

    All of it raises `TokenError` when the viewer's time is over.
    """

    def __init__(self, reader: Reader, bounds: Bounds) -> None:
        self.rule = reader.rule
        self._reader = reader
        self._sources = reader._sources
        self._bounds = bounds
        self._guarded = GuardedRuns(reader.runs, bounds)
        self.runs = self._guarded

    async def recent(self, limit: int = 100, *, account: str | None = None, site: str | None = None) -> list[Attempt]:
        self._bounds.check_time()

        async def ask(count: int) -> list[Attempt]:
            known: dict[str, Attempt] = {}
            for scope in self._bounds.scopes:
                for attempt in await self._recent(scope, count):
                    if account in (None, attempt.account) and site in (None, attempt.site):
                        known[attempt.attempt] = attempt
            return sorted(known.values(), key=lambda attempt: attempt.started, reverse=True)[:count]

        return await filled(limit, ask, lambda found: self._bounds.of_attempts(LIST, found))

    async def attempts(self, task_id: str, *, action: str = LIST) -> list[Attempt]:
        actions = _actions(action, follow=False)
        known = await self._known(actions, task_id)
        if known is None:
            return []
        attempts = await self._reader.attempts(task_id)
        joined = not known >= {attempt.attempt for attempt in attempts}
        return [] if joined and not await self._holds(actions, task_id, attempts) else attempts

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
        actions = _actions(action, follow=follow)
        while (known := await self._known(actions, task_id)) is None:
            if not follow:
                return
            await asyncio.sleep(_LOOK_SECONDS)
        log = self._reader.log(task_id, after=after, tail=tail, attempt=attempt, follow=follow, pulse=follow)
        standing = Standing(lambda: self._stands(actions, task_id))
        async with aclosing(standing), aclosing(log) as batches:
            async for batch in batches:
                self._bounds.check_time()
                if not await standing.lasts():
                    raise AccessError(_ENDED)
                if batch.records and batch.attempt not in known:
                    known |= await self._joined(actions, task_id, batch.attempt)
                if batch.records or pulse:
                    yield batch

    async def close(self) -> None:
        """Nothing: the connections are the other reader's."""

    async def _recent(self, scope: Scope, limit: int) -> list[Attempt]:
        if scope.task_id is not None:
            attempts = await self._reader.attempts(scope.task_id)
            return attempts if await self._in_scope(scope, scope.task_id, attempts) else []
        if scope.owners or scope.run_id is not None:
            return await self._guarded.of_scope(scope, limit)
        return await self._reader.recent(limit, account=scope.account, site=scope.site)

    async def _known(self, actions: Sequence[str], task_id: str) -> frozenset[str] | None:
        """The attempts by which a task is known to be one that may be seen; None when it is not.

        Of one that may be seen the catalog is often enough; all others take the same two questions.
        """
        self._bounds.check_time()
        if self._bounds.open_for(task_id):
            return frozenset()
        attempts = await self._sources.rows(task_id)
        if not await self._holds(actions, task_id, attempts):
            known = {attempt.attempt: attempt for attempt in attempts}
            for attempt in await self._sources.indexed_of(task_id):
                learn(known, attempt)
            attempts = list(known.values())
            if not await self._holds(actions, task_id, attempts):
                return None
        return frozenset(attempt.attempt for attempt in attempts)

    async def _stands(self, actions: Sequence[str], task_id: str) -> bool:
        return await self._known(actions, task_id) is not None

    async def _joined(self, actions: Sequence[str], task_id: str, name: str) -> frozenset[str]:
        """The attempts of a task whose log another one has joined, with which it may be seen still.

        :raises AccessError: when it may not.
        """
        if self._bounds.open_for(task_id):
            return frozenset([name])
        for _ in range(_LOOKS):
            attempts = await self._reader.attempts(task_id)
            names = frozenset(attempt.attempt for attempt in attempts)
            if name in names and await self._holds(actions, task_id, attempts):
                return names
            await asyncio.sleep(_LOOK_SECONDS)  # the log may be ahead of what is known
        raise AccessError(_ENDED)

    async def _holds(self, actions: Sequence[str], task_id: str, attempts: Sequence[Attempt]) -> bool:
        """Whether a task with these attempts lies in one of the scopes, and the rule allows all of this with it."""
        if self._bounds.open_for(task_id):
            return True
        scoped = [await self._in_scope(scope, task_id, attempts) for scope in self._bounds.scopes]
        allowed = await self._bounds.allow(actions, task_id, attempts)
        return any(scoped) and allowed

    async def _in_scope(self, scope: Scope, task_id: str, attempts: Sequence[Attempt]) -> bool:
        holds = bool(attempts) and all(scope.holds(known.account, known.site, known.run_id) for known in attempts)
        if scope.owners:
            run_ids = {known.run_id for known in attempts}
            run_id = run_ids.pop() if len(run_ids) == 1 else task_id  # to ask for, whether there is one or not
            holds = await self._guarded.owned(run_id, scope) and holds
        return scope.opens(task_id) or (holds and scope.task_id in (None, task_id))


def _actions(action: str | None, *, follow: bool) -> tuple[str, ...]:
    """What is asked of the rule: one who searches a log sees lines of it, too."""
    reading = LIVE if follow else ARCHIVE
    return (reading,) if action is None else (reading, SEARCH) if action == SEARCH else (action,)
