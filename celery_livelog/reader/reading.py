"""One reading of one task's log: what the archive has, what the stream has beyond it, and what comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from time import time_ns

from celery_livelog.attempts import Attempt
from celery_livelog.endings import LOST
from celery_livelog.reader.far_away import FarAway
from celery_livelog.reader.hub import Hub
from celery_livelog.reader.merge import Batch, Merge
from celery_livelog.reader.patience import Patience
from celery_livelog.reader.portions import Stretch
from celery_livelog.reader.sources import Sources
from celery_livelog.reader.starting import Starting
from celery_livelog.records import FINAL_STATES, End, decode, utc
from celery_livelog.stores.archive import Manifest


class Reading:
    """A place in a task's log that only goes forward.

    :param attempts: those known so far, in order of start; others join as they show up.
    """

    def __init__(self, sources: Sources, task_id: str, attempts: list[Attempt]) -> None:
        self._sources = sources
        self._task_id = task_id
        self._merge = Merge()
        self._far = FarAway(sources, task_id, attempts, self._merge)
        #: Finds where to begin, if not with the first record.
        self.starting = Starting(sources, task_id, self._merge, self._far)
        self._last_id = ""
        for attempt in attempts:
            self._merge.of(attempt.attempt)

    def begin(self, entry_id: str) -> None:
        """Read the stream from behind this entry on, as `starting` has found."""
        self._last_id = entry_id

    async def present(self, *, partials: bool) -> AsyncIterator[Batch]:
        """All that is there now, attempt after attempt: a second one may start before the first has ended."""
        manifests = await self._sources.manifests(self._task_id)
        for name in manifests:
            self._merge.of(name)
        first, *others = list(self._merge.attempts) or [""]
        async for batch in self._archived(manifests.get(first)):
            yield batch
        waiting: dict[str, list[Stretch]] = {name: [] for name in others}
        async for stretch in self._in_stream():
            first = first or stretch.attempt
            if stretch.attempt == first:
                async for batch in self._accepted(stretch, partials=partials):
                    yield batch
            else:
                waiting.setdefault(stretch.attempt, []).append(stretch)
        for name, stretches in waiting.items():
            async for batch in self._whole(manifests.get(name), stretches, partials=partials):
                yield batch
        async for batch in self._far.rest():
            yield batch

    async def coming(self) -> AsyncGenerator[Batch, None]:
        """What comes, until the task's last attempt has ended; an empty batch now and then while nothing comes."""
        hub = self._sources.hub
        if hub is None:
            return
        if not await self._over():
            async with aclosing(self._followed(hub)) as followed:
                async for batch in followed:
                    yield batch
        if not self._merge.over:  # the end is known before its record was read: so is what came with it
            async for batch in self.present(partials=False):
                yield batch

    def untold(self, attempts: list[Attempt]) -> Iterator[Batch]:
        """The ends that no record tells: of attempts that printed nothing and went well, of lost ones."""
        for attempt in attempts:
            progress = self._merge.of(attempt.attempt)
            silent = attempt.ended and not (attempt.lines or progress.n)
            if progress.end is None and (silent or (attempt.state == LOST and not attempt.ended)):
                end = End(
                    n=progress.n + 1,
                    timestamp=attempt.ended or utc(time_ns()),
                    state=attempt.state,
                    exit_code=attempt.exit_code or 0,
                    reason=attempt.reason,
                )
                yield self._merge.accept(attempt.attempt, [end])

    async def _followed(self, hub: Hub) -> AsyncGenerator[Batch, None]:
        """What comes, as `coming` gives it."""
        patience = Patience()
        async with aclosing(hub.follow(self._task_id, self._last_id)) as coming:
            async for portion in coming:
                for stretch in portion.stretches:
                    async for batch in self._accepted(stretch, partials=True):
                        yield batch
                if portion.entries:
                    patience = Patience()
                else:
                    yield Batch("", 0, [])
                if self._merge.over or (not portion.entries and (await self._over() or await self._lost(patience))):
                    return

    async def _lost(self, patience: Patience) -> bool:
        """Whether all that still runs is on workers that nothing has been heard of for a while."""
        if not patience.over():
            return False
        attempts = await self._sources.attempts(self._task_id)
        self._far.attempts = attempts
        gone = bool(attempts) and not any(attempt.running for attempt in attempts)
        if gone and attempts[-1].state in FINAL_STATES and await self._far.missing():
            return True
        return patience.confirmed(lost=gone and attempts[-1].state == LOST)

    async def _archived(self, manifest: Manifest | None) -> AsyncIterator[Batch]:
        if manifest is None:
            return
        name = manifest.attempt.attempt
        async for lines in self._sources.archived(manifest, self._merge.of(name).n):
            yield self._merge.accept(name, map(decode, lines))

    async def _whole(
        self, manifest: Manifest | None, stretches: list[Stretch], *, partials: bool
    ) -> AsyncIterator[Batch]:
        async for batch in self._archived(manifest):
            yield batch
        for stretch in stretches:
            async for batch in self._accepted(stretch, partials=partials):
                yield batch

    async def _in_stream(self) -> AsyncIterator[Stretch]:
        while portions := await self._sources.portions(self._task_id, self._last_id):
            self._last_id = portions[-1].last
            for portion in portions:
                for stretch in portion.stretches:
                    yield stretch

    async def _accepted(self, stretch: Stretch, *, partials: bool) -> AsyncIterator[Batch]:
        """What is new of a part of the stream. Where some are missing before it, the archive may have them by now."""
        if stretch.hole(self._merge, partials=partials):
            manifest = (await self._sources.manifests(self._task_id)).get(stretch.attempt)
            async for batch in self._archived(manifest) if manifest else self._far.log(stretch.attempt):
                yield batch
        yield stretch.accepted(self._merge, partials=partials)

    async def _over(self) -> bool:
        """Whether the task has ended, even where its stream does not tell: it was silent, or the stream is gone."""
        if self._merge.over:
            return True
        attempts = await self._sources.rows(self._task_id)
        if not attempts:
            manifests = await self._sources.manifests(self._task_id)
            attempts = [manifest.attempt for manifest in manifests.values()] or self._far.attempts
        going = {name for name, progress in self._merge.attempts.items() if progress.n and progress.end is None}
        told = going | {attempt.attempt for attempt in attempts if attempt.lines}
        over = {
            attempt.attempt
            for attempt in attempts
            if attempt.ended and (attempt.archive or attempt.attempt in self._far.read or attempt.attempt not in told)
        }
        last = attempts[-1] if attempts else None
        return last is not None and last.state in FINAL_STATES and last.attempt in over and going <= over
