"""Merging archive and stream: whatever comes twice, late, in pieces or not at all, a reader gets each record once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.reader.merge import Merge
from celery_livelog.records import End, Gap, Line, Partial, Record

AT = "2026-01-02T03:04:05.000006+00:00"
FIRST, SECOND = "00aa11bb", "22cc33dd"


def line(n: int, text: str = "", **fields: Any) -> Line:
    return Line(n=n, timestamp=AT, stream="stdout", line=text or f"line {n}", **fields)


def gap(first: int, last: int, reason: str = "overload") -> Gap:
    return Gap(n=last, timestamp=AT, skipped=last - first + 1, first=first, last=last, reason=reason)


def partial(n: int) -> Partial:
    return Partial(n=n, timestamp=AT, stream="stdout", line="half")


def end(n: int, state: str = "SUCCESS") -> End:
    return End(n=n, timestamp=AT, state=state, exit_code=0)


def pieces(n: int, count: int) -> list[Line]:
    """An overlong line as the stream has it."""
    return [line(n, f"piece {piece} of {n}", piece=piece, more=piece < count - 1) for piece in range(count)]


def start(record: Record) -> int:
    return record.first if isinstance(record, Gap) else record.n


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Record], list[list[Record]]]:
    """A log as the archive has it, and as the stream has it: each of its records as one entry or several."""
    archived: list[Record] = []
    streamed: list[list[Record]] = []
    for kind in draw(st.lists(st.sampled_from(["line", "line", "long", "gap"]), min_size=4, max_size=20)):
        n = archived[-1].n if archived else 0
        if kind == "gap":
            archived.append(gap(n + 1, n + draw(st.integers(1, 4))))
            streamed.append([archived[-1]])
        else:
            archived.append(line(n + 1))
            streamed.append([line(n + 1)] if kind == "line" else list(pieces(n + 1, draw(st.integers(2, 3)))))
    archived.append(end(archived[-1].n + 1 if archived else 1))
    streamed.append([archived[-1]])
    return archived, streamed


@st.composite
def readings(draw: st.DrawFn) -> tuple[list[Record], list[list[Record]]]:
    """A log, and parts of it in the way that a reader sees them: each source goes forward, and may know only a part."""
    archived, streamed = draw(logs())
    size = len(archived)
    seen: list[list[Record]] = []
    at = 0
    for overlap, hole, length in draw(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=2, max_size=8)):
        first = min(size, max(0, at - overlap + hole // 4))
        last = min(size, first + length + 1)
        if draw(st.booleans()):
            seen.append(archived[first:last])
        else:
            entries = [entry for record in streamed[first:last] for entry in record]
            if last > first and draw(st.booleans()):  # the stream was too slow: some are one gap
                low = draw(st.integers(first, last - 1))
                high = draw(st.integers(low, last - 1))
                told = gap(start(archived[low]), archived[high].n, "redis")
                entries = [
                    *(entry for record in streamed[first:low] for entry in record),
                    told,
                    *(entry for record in streamed[high + 1 : last] for entry in record),
                ]
            trimmed = draw(st.integers(0, 2))
            seen.append(entries[trimmed:])
        at = max(at, last)
    return archived, seen


@given(readings())
def test_each_number_comes_once(reading: tuple[list[Record], list[list[Record]]]) -> None:
    """As a record, in pieces one after the other, or in a gap: never twice, never out of order, no hole untold."""
    archived, seen = reading
    merge = Merge()
    accepted = [record for records in seen for record in merge.accept(FIRST, records).records]
    n = piece = 0
    for record in accepted:
        if isinstance(record, Line) and record.piece:
            assert (record.n, record.piece) == (n, piece + 1)
            piece = record.piece
            continue
        assert start(record) == n + 1
        if isinstance(record, Gap):
            assert record.skipped == record.last - record.first + 1
        n, piece = record.n, 0
    whole = {record.n for record in archived}
    assert {record.n for record in accepted if not isinstance(record, Gap)} <= whole
    reach = [record.n - bool(getattr(record, "piece", 0)) for records in seen for record in records]
    assert n == max([0, *reach])


@given(readings(), st.lists(st.integers(1, 3), max_size=30))
def test_batches_make_no_difference(reading: tuple[list[Record], list[list[Record]]], sizes: list[int]) -> None:
    """How what is read is divided into batches changes nothing."""
    _, seen = reading
    at_once, apart = Merge(), Merge()
    expected = [record for records in seen for record in at_once.accept(FIRST, records).records]
    flat = [record for records in seen for record in records]
    found: list[Record] = []
    for size in [*sizes, len(flat)]:
        found += apart.accept(FIRST, flat[:size]).records
        flat = flat[size:]
    assert found == expected


@given(logs(), st.integers(0, 20))
def test_what_the_archive_has_is_not_missing(log: tuple[list[Record], list[list[Record]]], known: int) -> None:
    """Archive first, then a stream that knows only the newest: the records themselves, no gap of ours."""
    archived, streamed = log
    merge = Merge()
    found = merge.accept(FIRST, archived[:known]).records
    found += merge.accept(FIRST, [entry for record in streamed[max(0, known - 3) :] for entry in record]).records
    assert [record.n for record in found if not (isinstance(record, Line) and record.piece)] == [
        record.n for record in archived
    ]
    assert not [record for record in found if isinstance(record, Gap) and record.reason == "trim"]


def test_a_hole_is_told_in_its_place() -> None:
    """What was trimmed before anybody read it is a gap before the next record."""
    merge = Merge()
    batch = merge.accept(FIRST, [line(1), line(5)])
    assert batch.records == [line(1), gap(2, 4, "trim"), line(5)]


def test_a_gap_over_what_was_read_is_what_is_missing() -> None:
    """A gap of the stream over lines that the archive had stands only for the others."""
    merge = Merge()
    merge.accept(FIRST, [line(n) for n in range(1, 11)])
    assert merge.accept(FIRST, [gap(3, 12, "redis"), line(13)]).records == [gap(11, 12, "redis"), line(13)]


def test_an_overlong_line_comes_piece_by_piece() -> None:
    """Each piece once and in order, however often the stream gives them; not a piece without those before it."""
    merge = Merge()
    long = pieces(1, 4)
    assert merge.accept(FIRST, long[:2]).records == long[:2]
    assert merge.accept(FIRST, long[:3]).records == long[2:3]
    assert merge.accept(FIRST, [line(1), *long]).records == long[3:]
    assert merge.accept(FIRST, [*long, line(2), line(2, piece=1)]).records == [line(2)]
    assert merge.accept(FIRST, [*pieces(3, 3)[1:], line(4)]).records == [gap(3, 3, "trim"), line(4)]


def test_a_half_line_is_shown_while_it_is_the_next() -> None:
    """The unfinished state of a line counts for nothing, and is passed over when the line is there or far off."""
    merge = Merge()
    assert merge.accept(FIRST, [partial(1), line(1), partial(1), partial(3)]).records == [partial(1), line(1)]
    assert merge.of(FIRST).n == 1


def test_attempts_are_numbered_in_order_of_start() -> None:
    """Each attempt has its own place; one that shows up later is the next."""
    merge = Merge()
    assert merge.accept(FIRST, [line(1)]).number == 1
    assert merge.accept(SECOND, [line(1)]).number == 2
    assert merge.accept(FIRST, [line(2)]).records == [line(2)]
    assert (merge.of(FIRST).n, merge.of(SECOND).n) == (2, 1)


@pytest.mark.parametrize(
    ("first", "second", "over"),
    [
        ([], [], False),
        ([line(1)], [], False),
        ([line(1), end(2)], [], True),
        ([line(1), end(2, "RETRY")], [], False),
        ([line(1), end(2, "RETRY")], [line(1)], False),
        ([line(1), end(2, "RETRY")], [line(1), end(2)], True),
        ([line(1)], [line(1), end(2)], False),
        ([line(1), end(2, "FAILURE")], [line(1), end(2, "RETRY")], False),
    ],
)
def test_a_task_is_over_with_its_last_attempt(first: list[Record], second: list[Record], over: bool) -> None:
    """Not while any attempt that printed something runs on, and not after a retry, whatever came before."""
    merge = Merge()
    merge.of("silent")
    for attempt, records in ((FIRST, first), (SECOND, second)):
        if records:
            merge.accept(attempt, records)
    assert merge.over is over


def test_an_end_that_was_read_before_still_ends() -> None:
    """A viewer that comes back behind the last record learns from the stream that there is no more."""
    merge = Merge()
    merge.of(FIRST).n = 2
    assert merge.accept(FIRST, [line(1), end(2)]).records == []
    assert merge.over
