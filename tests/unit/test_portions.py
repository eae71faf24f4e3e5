"""A stream in portions: whoever reads it at the same place is given the same, and nobody what is another's."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.reader import channel as room
from celery_livelog.reader.channel import Channel
from celery_livelog.reader.merge import Merge
from celery_livelog.reader.portions import Entry, order, portions
from celery_livelog.records import Gap, Line, Partial, Record
from celery_livelog.viewer.messages import messages

AT = "2026-01-02T03:04:05.000006+00:00"
ATTEMPTS = ("00aa11bb", "22cc33dd")


def entries(*records: tuple[str, Record]) -> list[Entry]:
    return [(f"{place}-0", attempt, record) for place, (attempt, record) in enumerate(records, 1)]


def line(n: int, size: int = 1) -> Line:
    return Line(n=n, timestamp=AT, stream="stdout", line="x" * size)


def half(n: int) -> Partial:
    return Partial(n=n, timestamp=AT, stream="stdout", line="half")


def test_who_is_at_the_same_place_is_given_the_same() -> None:
    """One batch and its messages, made once; who is further has fewer records, in a batch of its own."""
    (portion,) = portions(entries(*[(ATTEMPTS[0], line(n)) for n in range(1, 11)]))
    (stretch,) = portion.stretches
    first, second, further = Merge(), Merge(), Merge()
    further.of(ATTEMPTS[0]).n = 4
    batch = stretch.accepted(first, partials=True)
    assert stretch.accepted(second, partials=True) is batch
    assert messages(batch) is messages(batch)
    assert [record.n for record in stretch.accepted(further, partials=True).records] == [5, 6, 7, 8, 9, 10]
    assert all(merge.of(ATTEMPTS[0]).n == 10 for merge in (first, second, further))


_records = st.lists(
    st.tuples(
        st.sampled_from(ATTEMPTS),
        st.one_of(
            st.integers(1, 12).map(line),
            st.integers(1, 12).map(half),
            st.integers(1, 9).map(lambda n: Gap(n=n + 2, timestamp=AT, skipped=3, first=n, last=n + 2, reason="redis")),
        ),
    ),
    max_size=20,
)


@given(_records, st.lists(st.dictionaries(st.sampled_from(ATTEMPTS), st.integers(0, 12)), min_size=2, max_size=8))
def test_sharing_changes_nothing(recorded: list[tuple[str, Record]], places: list[dict[str, int]]) -> None:
    """Many readers from any places, each whole or without half lines: what each is given is what it would be alone."""
    shared = [stretch for portion in portions(entries(*recorded)) for stretch in portion.stretches]
    for number, place in enumerate(places):
        partials = bool(number % 2)
        mine, alone = Merge(), Merge()
        for merge in (mine, alone):
            for attempt in ATTEMPTS:
                merge.of(attempt).n = place.get(attempt, 0)
        for stretch in shared:
            records = [r for r in stretch.records if partials or not isinstance(r, Partial)]
            assert stretch.accepted(mine, partials=partials) == alone.accept(stretch.attempt, records)
        assert mine == alone


@given(st.lists(st.integers(0, 60_000), max_size=400))
def test_portions_are_small_and_whole(sizes: list[int]) -> None:
    """All entries in their order; none is so large that a reader who stands still keeps much from being forgotten."""
    given_entries = entries(*[(ATTEMPTS[0], line(n, size)) for n, size in enumerate(sizes, 1)])
    made = list(portions(given_entries))
    assert [entry for portion in made for entry in portion.entries] == given_entries
    for portion in made:
        texts = [len(entry[2].text) for entry in portion.entries]
        assert len(texts) <= 128
        assert len(texts) == 1 or sum(texts) <= 32 * 1024


@given(st.integers(0, 40), st.lists(st.integers(1, 9), max_size=8))
def test_what_is_remembered(place: int, counts: list[int]) -> None:
    """All that comes after a place; or nothing at all when a part of it was forgotten."""

    async def test() -> None:
        channel, ids = Channel("0-0"), list[str]()
        for count in counts:
            news = [(f"{len(ids) + n}-0", ATTEMPTS[0], line(len(ids) + n, 1000)) for n in range(1, count + 1)]
            channel.add(news)
            ids += [entry_id for entry_id, _, _ in news]
        found = channel.after(f"{place}-0")
        if found is None:
            assert place < order(channel.start)[0]
        else:
            assert [entry[0] for portion in found for entry in portion.entries] == ids[place:]

    remembered = room._REMEMBERED
    room._REMEMBERED = 20_000
    try:
        asyncio.run(test())
    finally:
        room._REMEMBERED = remembered
