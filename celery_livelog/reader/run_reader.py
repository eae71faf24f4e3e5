"""Reads runs: which there are, how they stand, their attempts and stages, and the end of all their tasks' logs in one.

Rules:
- a run is what its ``run_end`` says; until then, what its tasks are, and begun as long as there are none;
- a task that waits for another try counts as running, a task whose worker is lost as failed;
- a stage that is open in an attempt that is over was interrupted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from msgspec.structs import asdict, replace

from celery_livelog.attempts import Attempt
from celery_livelog.endings import LOST
from celery_livelog.permissions import ARCHIVE, LIST
from celery_livelog.reader.ears import Ear, Ears
from celery_livelog.reader.run_tail import RunTail
from celery_livelog.reader.sources import Sources
from celery_livelog.records import Record
from celery_livelog.runs import RunEntry, RunView, Stage
from celery_livelog.stores.catalog import Catalog, Tally
from celery_livelog.stores.models import stored_id
from celery_livelog.stores.run_queries import Scope

_WELL = frozenset({"SUCCESS", "IGNORED"})
_GOING = frozenset({"STARTED", "RETRY"})
_ANY: Mapping[str, str] = MappingProxyType({})


class RunReader:
    """Reads the runs of one scope, by default all. What is outside of it is as if it did not exist.

    All of it raises `StoreError` when the catalog cannot be read, or Redis does not answer.

    :param scopes: accounts with their sites, None for any; only what is in all of them is seen.
    """

    def __init__(self, sources: Sources, *scopes: Scope) -> None:
        self._sources = sources
        self._scopes = scopes

    def within(self, account: str | None = None, site: str | None = None) -> RunReader:
        """Read only what is of an account, and of a site, within the scope of this reader."""
        return RunReader(self._sources, *self._scopes, (account, site))

    async def recent(
        self,
        limit: int = 100,
        *,
        before: str | None = None,
        account: str | None = None,
        site: str | None = None,
        fields: Mapping[str, str] = _ANY,
    ) -> list[RunView]:
        """Up to `limit` runs, newest start first: named ones, and those with a stage or more than one task.

        :param before: a time in ISO 8601 UTC, such as the `started` of the last one shown; only older ones are given.
        :param account: only those of this account.
        :param site: only those of this site.
        :param fields: only those that were begun with these, such as ``{"user_id": "7"}``.
        """
        scopes = (*self._scopes, (account, site))
        entries = await self._sources.ask(lambda catalog: catalog.runs(limit, before, *scopes, fields=fields))
        tasks = await self._tasks([entry.run_id for entry in entries])
        return [_view(entry, tasks.get(_key(entry))) for entry in entries]

    async def get(self, run_id: str, *, fields: Mapping[str, str] = _ANY) -> RunView | None:
        """A run; None when no attempt has this run id. Of several accounts' runs, that which began last.

        :param fields: only one that was begun with these.
        """
        found = await self._views(run_id, fields, judged=True)
        return found[0] if found else None

    async def known(self, run_id: str, *, fields: Mapping[str, str] = _ANY) -> list[RunView]:
        """The runs with this id, as `get` gives one, the newest first; but Redis is not asked who is lost."""
        return await self._views(run_id, fields, judged=False)

    async def attempts(self, run_id: str, *, action: str = LIST) -> list[Attempt]:
        """All attempts of all tasks of a run, in order of start.

        :param action: what a viewer does with them; see `Reader`.
        """
        name = ("attempts", run_id, self._scopes)
        attempts = await self._sources.ask(lambda catalog: catalog.attempts_of_run(run_id, *self._scopes), name)
        return await self._sources.judged(attempts)

    async def stages(self, run_id: str) -> list[Stage]:
        """All stages of a run, in order of start."""

        def ask(catalog: Catalog) -> tuple[list[Attempt], list[Stage]]:
            # The attempts first: of one that is over then, all stages have ended as far as they ever will.
            attempts = catalog.attempts_in_stages(run_id, *self._scopes)
            return attempts, catalog.stages_of_run(run_id, *self._scopes)

        attempts, stages = await self._sources.ask(ask)
        over = {attempt.attempt: attempt for attempt in await self._sources.judged(attempts) if not attempt.running}
        return [_interrupted(stage, over.get(stage.attempt)) for stage in stages]

    async def tail(self, run_id: str, lines: int) -> list[tuple[Attempt, Record]]:
        """The newest records of all tasks of a run, in order of time, lines whole: what `lines` lines of text show."""
        return await RunTail(self._sources, await self.attempts(run_id, action=ARCHIVE), lines).read()

    @contextmanager
    def hearing(self, run_id: str) -> Iterator[Ear]:
        """Hear when attempts of a run begin or end, as far as Redis knows."""
        hub = self._sources.hub
        with Ears().ear(run_id) if hub is None else hub.hearing(run_id) as ear:
            yield ear

    async def _views(self, run_id: str, fields: Mapping[str, str], *, judged: bool) -> list[RunView]:
        tasks = await self._tasks([run_id], judged=judged)  # first: what has a task is known as a run before
        name = ("entries", run_id, self._scopes, frozenset(fields.items()))
        entries = await self._sources.ask(lambda catalog: catalog.entries(run_id, *self._scopes, fields=fields), name)
        if entries:
            return [_view(entry, tasks.get(_key(entry))) for entry in entries]
        if fields or not tasks:
            return []
        (_, account, site), found = next(iter(tasks.items()))
        return [_view(RunEntry(run_id=run_id, account=account, site=site, started=found.started), found)]

    async def _tasks(self, run_ids: Sequence[str], *, judged: bool = True) -> dict[tuple[str, str, str], _Tasks]:
        if not run_ids:
            return {}
        name = ("tallies", tuple(run_ids), self._scopes)
        tallies = await self._sources.ask(lambda catalog: catalog.tallies(run_ids, *self._scopes), name)
        lapsed = await self._sources.lapsed({tally.lease for tally in tallies if tally.lease}) if judged else set[str]()
        tasks: dict[tuple[str, str, str], _Tasks] = {}
        for tally in tallies:
            tasks.setdefault((tally.run_id, tally.account, tally.site), _Tasks()).add(tally, lapsed)
        return tasks


@dataclass(slots=True)
class _Tasks:
    """The tasks of a run, counted; `started` and `ended` of the first and the last one."""

    count: int = 0
    running: int = 0
    failed: int = 0
    started: str = ""
    ended: str = ""

    def add(self, tally: Tally, lapsed: Collection[str]) -> None:
        state = LOST if (tally.lease or "") in lapsed else tally.state
        self.count += tally.tasks
        self.running += tally.tasks * (state in _GOING)
        self.failed += tally.tasks * (state not in _WELL | _GOING)
        self.started = min(self.started or tally.started, tally.started)
        self.ended = max(self.ended, tally.ended)


def _key(entry: RunEntry) -> tuple[str, str, str]:
    """A run as the catalog's columns hold it."""
    return stored_id(entry.run_id), stored_id(entry.account), stored_id(entry.site)


def _view(entry: RunEntry, tasks: _Tasks | None) -> RunView:
    tasks = tasks or _Tasks()
    said = asdict(entry)
    if not entry.ended:
        going = tasks.running or not tasks.count
        state = "RUNNING" if going else "FAILURE" if tasks.failed else "SUCCESS"
        said |= {"state": state, "ended": "" if going else tasks.ended}
    return RunView(**said, tasks=tasks.count, running=tasks.running, failed=tasks.failed)


def _interrupted(stage: Stage, over: Attempt | None) -> Stage:
    """A stage as it stands when its attempt is over."""
    if over is None or stage.state != "running":
        return stage
    return replace(stage, state="interrupted", ended=over.ended)
