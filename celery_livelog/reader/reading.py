"""One reading of one task's log: what the archive has, what the stream has beyond it, and what comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import aclosing
from time import time_ns

from celery_livelog.attempts import Attempt
from celery_livelog.cursors import Cursor
from celery_livelog.endings import LOST
from celery_livelog.reader.far_away import FarAway
from celery_livelog.reader.hub import Hub
from celery_livelog.reader.merge import Batch, Merge
from celery_livelog.reader.patience import Patience
from celery_livelog.reader.portions import Entry, Stretch, numbered
from celery_livelog.reader.sources import NEWEST, Sources
from celery_livelog.records import FINAL_STATES, End, Gap, Line, Partial, decode, utc
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
        self._last_id = ""
        for attempt in attempts:
            self._merge.of(attempt.attempt)

    async def start_after(self, cursor: Cursor, running: Collection[str]) -> None:
        """Start behind a cursor.

        Attempts that it does not name are over if they started before one that it does, and are read from their start
        if they started later, or are still `running`.
        """
        places = cursor.places
        named = [name for name in self._merge.attempts if name in places]
        if not named:
            return
        entries, archived, extents = await self._extents(NEWEST)
        before = True
        for name, progress in self._merge.attempts.items():
            if name in places:
                progress.n = places[name]
                before = name != named[-1]
            elif before and name not in running:
                progress.n = extents.get(name, 0) or self._far.pass_over(name)
        self._skip(entries, NEWEST, archived, extents, partials=True)

    async def start_before_end(self, tail: int, attempt: int | None, *, partials: bool = True) -> None:
        """Start so that the last `tail` records, of all attempts or one, are read; ends of attempts are not counted.

        :param partials: whether unfinished lines count, which may stand anywhere in the stream.
        """
        count = NEWEST + 2 * tail
        entries, archived, extents = await self._extents(count)
        far = await self._far.extents(extents)
        extents |= far
        ended = await self._ended() | far.keys()
        for name, progress in reversed(self._merge.attempts.items()):
            size = extents.get(name, 0)
            if attempt not in (None, progress.number):
                progress.n = size
                continue
            countable = max(0, size - (name in ended))
            progress.n = max(0, countable - tail) if tail else size
            tail = max(0, tail - countable)
        self._skip(entries, count, archived, extents, partials=partials)

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

    def _skip(
        self, entries: list[Entry], count: int, archived: dict[str, int], extents: dict[str, int], *, partials: bool
    ) -> None:
        """Begin with these last `count` entries of the stream, if nothing that is wanted stands before them.

        Half lines of several attempts may stand anywhere; that of one stands behind its last whole one.
        """
        if (
            len(entries) == count
            and (not partials or len(extents) == 1)
            and self._suffice(entries[1:], archived, extents)
        ):
            self._last_id = entries[0][0]

    def _suffice(self, entries: list[Entry], archived: dict[str, int], extents: dict[str, int]) -> bool:
        """Whether the last entries of the stream have all that is to be read and that the archive has not."""
        reached = {name: max(archived.get(name, 0), self._merge.of(name).n) for name in extents}
        wanted = {name for name, size in extents.items() if reached[name] < size}
        for _, name, record in entries:
            if name in wanted and not isinstance(record, Partial):
                first = record.first if isinstance(record, Gap) else record.n
                begun = isinstance(record, Line) and record.piece > 0  # an overlong line whose first piece is before
                if first + begun > reached[name] + 1:
                    return False
                wanted.remove(name)
        return not wanted

    async def _extents(self, count: int) -> tuple[list[Entry], dict[str, int], dict[str, int]]:
        """The last `count` entries of the stream; the last number of each attempt in the archive; and anywhere."""
        entries = await self._sources.last_entries(self._task_id, count)
        archived = await self._archived_extents()
        return entries, archived, archived | numbered(entries)

    async def _archived_extents(self) -> dict[str, int]:
        manifests = await self._sources.manifests(self._task_id)
        return {name: manifest.segments[-1].last for name, manifest in manifests.items() if manifest.segments}

    async def _ended(self) -> set[str]:
        """The attempts whose last record is an end."""
        manifests = await self._sources.manifests(self._task_id)
        complete = {name for name, manifest in manifests.items() if manifest.complete}
        return complete | {attempt.attempt for attempt in await self._sources.rows(self._task_id) if attempt.ended}
