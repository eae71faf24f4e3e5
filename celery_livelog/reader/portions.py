"""A task's stream in portions that all who read it share: each is put together once for all who are at the same place.

Pure. A portion is small, so that a reader that stands still keeps no more than that from being forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from celery_livelog.reader.merge import Batch, Merge, Progress
from celery_livelog.records import Partial, Record

#: An entry of a stream: its id, the attempt, and the record.
Entry = tuple[str, str, Record]

#: Entries of a portion and, as far as one entry is not more, characters of their text.
_ENTRIES, _TEXT = 128, 32 * 1024
#: Places from which a portion is kept put together.
_PLACES = 4
#: Bytes that an entry takes beside its text: names, times, objects.
_BESIDE = 400


class Stretch:
    """Records of one attempt that follow each other in a stream."""

    def __init__(self, attempt: str, records: list[Record]) -> None:
        self.attempt = attempt
        self.records = records
        self._whole = [record for record in records if not isinstance(record, Partial)]
        self._kept: dict[tuple[int, int, int, str, bool], tuple[Batch, Progress]] = {}

    def hole(self, merge: Merge, *, partials: bool) -> bool:
        """Whether records are missing before it."""
        records = self.records if partials else self._whole
        return bool(records) and merge.of(self.attempt).hole(records[0]) is not None

    def accepted(self, merge: Merge, *, partials: bool) -> Batch:
        """What is new of it to a reader; the same batch for all that have come equally far."""
        progress = merge.of(self.attempt)
        place = (progress.number, progress.n, progress.piece, progress.note, partials)
        kept = self._kept.get(place)
        if kept is not None:
            batch, then = kept
            progress.n, progress.piece, progress.end = then.n, then.piece, then.end or progress.end
            return batch
        batch = merge.accept(self.attempt, self.records if partials else self._whole)
        if len(self._kept) < _PLACES:
            self._kept[place] = batch, replace(progress)
        return batch


class Portion:
    """Entries of a stream that follow each other."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        #: Bytes that it takes, about.
        self.size = sum(len(entry[2].text) + _BESIDE for entry in entries)
        self._stretches: list[Stretch] = []

    @property
    def first(self) -> str:
        return self.entries[0][0]

    @property
    def last(self) -> str:
        return self.entries[-1][0]

    @property
    def stretches(self) -> list[Stretch]:
        """Its records, those of one attempt that follow each other together."""
        if not self._stretches:
            for attempt, entries in groupby(self.entries, key=lambda entry: entry[1]):
                self._stretches.append(Stretch(attempt, [record for _, _, record in entries]))
        return self._stretches

    def after(self, place: tuple[int, int]) -> Portion:
        """What of it comes after an id."""
        return self if order(self.first) > place else Portion([e for e in self.entries if order(e[0]) > place])


#: What comes where nothing does.
NOTHING = Portion(())


def portions(entries: Sequence[Entry]) -> Iterator[Portion]:
    """Entries in portions."""
    start = size = 0
    for place, entry in enumerate(entries):
        length = len(entry[2].text)
        if place > start and (place - start == _ENTRIES or size + length > _TEXT):
            yield Portion(entries[start:place])
            start, size = place, 0
        size += length
    if start < len(entries):
        yield Portion(entries[start:])


def numbered(entries: Iterable[Entry]) -> dict[str, int]:
    """The last number of each attempt among entries of a stream."""
    last: dict[str, int] = {}
    for _, name, record in entries:
        if not isinstance(record, Partial):
            last[name] = max(record.n, last.get(name, 0))
    return last


def order(entry_id: str) -> tuple[int, int]:
    """A Redis entry id as numbers that compare."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds or 0), int(sequence or 0)
