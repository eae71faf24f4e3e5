"""A reader of the runs that a viewer may see; part of the door.

Rules:
- a run that may be seen shows its stages; of its tasks, those that may be listed, and of their lines likewise;
- of several accounts' runs with one id, the newest that may be seen is meant, and nothing is ever a mixture of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from celery_livelog.access.bounds import Bounds, filled
from celery_livelog.attempts import Attempt
from celery_livelog.permissions import LIST, OWNER, Scope
from celery_livelog.reader.run_reader import RunReader
from celery_livelog.runs import RunView, Stage

_ANY: Mapping[str, str] = MappingProxyType({})


class GuardedRuns(RunReader):
    """Reads runs within the bounds of a viewer, over the connections of another reader."""

    def __init__(self, runs: RunReader, bounds: Bounds) -> None:
        super().__init__(runs._sources)
        self._runs = runs
        self._bounds = bounds

    def within(self, account: str | None = None, site: str | None = None) -> RunReader:
        return GuardedRuns(self._runs.within(account, site), self._bounds)

    async def recent(
        self,
        limit: int = 100,
        *,
        before: str | None = None,
        account: str | None = None,
        site: str | None = None,
        fields: Mapping[str, str] = _ANY,
    ) -> list[RunView]:
        self._bounds.check_time()
        runs = self._runs.within(account, site)

        async def ask(count: int) -> list[RunView]:
            found: list[RunView] = []
            for scope in self._bounds.scopes:
                found += await _newest(runs, scope, count, before, fields)
            return _each_once(found)[:count]

        return await filled(limit, ask, self._bounds.of_runs)

    async def get(self, run_id: str, *, fields: Mapping[str, str] = _ANY) -> RunView | None:
        runs = await self._found(run_id, fields)
        return None if runs is None else await runs.get(run_id, fields=fields)

    async def attempts(self, run_id: str, *, action: str = LIST) -> list[Attempt]:
        runs = await self._found(run_id)
        return [] if runs is None else await self._bounds.of_attempts(action, await runs.attempts(run_id))

    async def stages(self, run_id: str) -> list[Stage]:
        runs = await self._found(run_id)
        return [] if runs is None else await runs.stages(run_id)

    async def known(self, run_id: str, *, fields: Mapping[str, str] = _ANY) -> list[RunView]:
        self._bounds.check_time()
        found: list[RunView] = []
        for scope in self._bounds.scopes:
            found += await _with_id(self._runs, scope, run_id, fields)
        asked = _each_once(found) or [RunView(run_id=run_id)]
        return await self._bounds.of_runs(asked, exist=bool(found))

    async def owned(self, run_id: str, owner: Scope) -> bool:
        """Whether there is a run with this id in the scope of an owner, whatever the rule says of it."""
        return bool(await _with_id(self._runs, owner, run_id, _ANY))

    async def of_scope(self, scope: Scope, limit: int) -> list[Attempt]:
        """The attempts in the newest runs of a scope, whatever the rule says of them."""
        attempts: list[Attempt] = []
        if scope.run_id is not None:
            runs = await _with_id(self._runs, scope, scope.run_id, _ANY)
        else:
            runs = await _newest(self._runs, scope, limit, None, _ANY)
        for run in runs:
            attempts += await self._runs.within(run.account, run.site).attempts(run.run_id)
            if len(attempts) >= limit:
                break
        return attempts

    async def _found(self, run_id: str, fields: Mapping[str, str] = _ANY) -> RunReader | None:
        """The reader of a run and of what belongs to it."""
        known = await self.known(run_id, fields=fields)
        return self._runs.within(known[0].account, known[0].site) if known else None


async def _newest(
    runs: RunReader, scope: Scope, limit: int, before: str | None, fields: Mapping[str, str]
) -> list[RunView]:
    """The newest runs of a scope."""
    found: list[RunView] = []
    if scope.task_id is not None:
        return found
    if scope.run_id is not None:
        found = await _with_id(runs, scope, scope.run_id, fields)
        return [run for run in found if before is None or run.started < before]
    for wanted in _wanted(scope, fields):
        found += await runs.within(*scope.place).recent(limit, before=before, fields=wanted)
    return found


async def _with_id(runs: RunReader, scope: Scope, run_id: str, fields: Mapping[str, str]) -> list[RunView]:
    """The runs of a scope that have this id."""
    found: list[RunView] = []
    if scope.task_id is not None or scope.run_id not in (None, run_id):
        return found
    for wanted in _wanted(scope, fields):
        found += await runs.within(*scope.place).known(run_id, fields=wanted)
    return found


def _each_once(runs: list[RunView]) -> list[RunView]:
    """Runs of several scopes, the newest first."""
    known = {(run.run_id, run.account, run.site): run for run in runs}
    return sorted(known.values(), key=lambda run: (run.started, run.run_id), reverse=True)


def _wanted(scope: Scope, fields: Mapping[str, str]) -> list[dict[str, str]]:
    """The fields to ask for: those that were asked for, and one of the owner's if the scope has an owner."""
    if not scope.owners:
        return [dict(fields)]
    owners = [owner for owner in sorted(scope.owners) if fields.get(OWNER, owner) == owner]
    return [{**fields, OWNER: owner} for owner in owners]
