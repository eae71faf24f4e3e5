"""Where a reading begins: behind a cursor or before the end, and how little of the stream has to be read for that."""

from __future__ import annotations

from collections.abc import Collection

from celery_livelog.cursors import Cursor
from celery_livelog.reader.far_away import FarAway
from celery_livelog.reader.merge import Merge
from celery_livelog.reader.portions import Entry, numbered
from celery_livelog.reader.sources import NEWEST, Sources
from celery_livelog.records import Gap, Line, Partial


class Starting:
    """Finds the beginning.

    :param merge: the attempts; how far they are passed over is noted there.
    """

    def __init__(self, sources: Sources, task_id: str, merge: Merge, far: FarAway) -> None:
        self._sources = sources
        self._task_id = task_id
        self._merge = merge
        self._far = far

    async def after(self, cursor: Cursor, running: Collection[str]) -> str:
        """Start behind a cursor; give the id of the entry of the stream after which to read.

        Attempts that it does not name are over if they started before one that it does, and are read from their start
        if they started later, or are still `running`.
        """
        places = cursor.places
        named = [name for name in self._merge.attempts if name in places]
        if not named:
            return ""
        entries, archived, extents = await self._extents(NEWEST)
        before = True
        for name, progress in self._merge.attempts.items():
            if name in places:
                progress.n = places[name]
                before = name != named[-1]
            elif before and name not in running:
                progress.n = extents.get(name, 0) or self._far.pass_over(name)
        return self._skip(entries, NEWEST, archived, extents, partials=True)

    async def before_end(self, tail: int, attempt: int | None, *, partials: bool) -> str:
        """Start so that the last `tail` records, of all attempts or one, are read; ends of attempts are not counted.

        Gives the same as `after`.

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
        return self._skip(entries, count, archived, extents, partials=partials)

    def _skip(
        self, entries: list[Entry], count: int, archived: dict[str, int], extents: dict[str, int], *, partials: bool
    ) -> str:
        """Begin with these last `count` entries of the stream, if nothing that is wanted stands before them.

        Half lines of several attempts may stand anywhere; that of one stands behind its last whole one.
        """
        if (
            len(entries) == count
            and (not partials or len(extents) == 1)
            and self._suffice(entries[1:], archived, extents)
        ):
            return entries[0][0]
        return ""

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
