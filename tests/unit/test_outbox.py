"""The outbox: whatever waits, is sent, comes back or is refused, what arrives and the gaps make up the whole log."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.attempts import Attempt
from celery_livelog.records import End, Gap, Line, Partial, Record
from celery_livelog.shipper.outbox import Outbox
from celery_livelog.shipper.waiting import Waiting, make_room

AT = "2026-01-02T03:04:05.000006+00:00"


def line(n: int, text: str = "text") -> Line:
    return Line(n=n, timestamp=AT, stream="stdout", line=text)


def gap(first: int, last: int) -> Gap:
    return Gap(n=last, timestamp=AT, skipped=last - first + 1, first=first, last=last, reason="overload")


def partial(n: int) -> Partial:
    return Partial(n=n, timestamp=AT, stream="stdout", line="half a line")


def check_whole(received: list[Record], last: int) -> None:
    """Every number from 1 to `last` once, as a record or in a gap; partials before the record with their number."""
    at = 1
    for record in received:
        if isinstance(record, Partial):
            assert record.n == at
            continue
        assert (record.first if isinstance(record, Gap) else record.n) == at
        if isinstance(record, Gap):
            assert record.skipped == record.last - record.first + 1 > 0
            assert record.n == record.last
        at = record.n + 1
    assert at == last + 1


#: What an attempt gives: lines of some length, gaps of its own, unfinished lines; each number stands for one of them.
GIVEN = st.lists(
    st.tuples(st.sampled_from(["line", "line", "line", "gap", "partial"]), st.integers(1, 40)), max_size=12
)
#: A step: what is done, what is put, how many are taken, and how many of these are sent.
STEP = st.tuples(st.sampled_from(["put", "send", "come back", "refuse"]), GIVEN, st.integers(1, 12), st.integers(0, 6))


def records(given: list[tuple[str, int]], n: int) -> list[Record]:
    """What comes after number `n`."""
    made: list[Record] = []
    for kind, size in given:
        if kind == "partial":
            made.append(partial(n + 1))
        elif kind == "gap":
            made.append(gap(n + 1, n + size))
            n += size
        else:
            made.append(line(n + 1, "x" * size))
            n += 1
    return made


@given(st.lists(STEP, min_size=8, max_size=30), st.integers(1, 15), st.integers(10, 200))
def test_what_arrives_and_the_gaps_are_the_whole(
    steps: list[tuple[str, list[tuple[str, int]], int, int]], limit: int, limit_bytes: int
) -> None:
    """In any order of putting, sending, coming back and refusing, under any bounds; and the bounds hold."""
    outbox = Outbox(limit, limit_bytes)
    received: list[Record] = []
    n = 0
    for step, given_now, count, sent in steps:
        if step == "put":
            new = records(given_now, n)
            outbox.put(new)
            n = max([n, *(record.n for record in new if not isinstance(record, Partial))])
        else:
            taken = outbox.take(count)
            assert len(taken) <= count
            received += taken if step == "send" else taken[:sent]
            if step == "come back":
                n += 1
                outbox.put([line(n)])  # meanwhile
                outbox.give_back(taken[sent:])
            elif step == "refuse":
                outbox.refuse(taken[sent:])
        waiting = list(outbox._waiting)
        assert len(waiting) <= limit
        shown = [len(record.text) for record in waiting if not isinstance(record, Gap)]
        assert sum(shown) <= limit_bytes or len(waiting) == 1
    while outbox:
        received += outbox.take(5)
    check_whole(received, n)


@given(st.lists(st.integers(1, 200), max_size=60), st.integers(2, 20), st.integers(100, 2000))
def test_the_newest_is_kept(sizes: list[int], limit: int, limit_bytes: int) -> None:
    """While nothing can be sent, the oldest make room; what is left is all that fits, and the end is there."""
    outbox = Outbox(limit, limit_bytes)
    for n, size in enumerate(sizes, 1):
        outbox.put([line(n, "x" * size)])
    outbox.put([End(n=len(sizes) + 1, timestamp=AT, state="SUCCESS", exit_code=0)])
    *before, last = outbox.take(1000)
    assert isinstance(last, End)
    kept = [record for record in before if isinstance(record, Line)]
    assert [record.n for record in kept] == list(range(len(sizes) - len(kept) + 1, len(sizes) + 1))
    if len(kept) < len(sizes):
        oldest = before[0]
        assert isinstance(oldest, Gap)
        assert (oldest.first, oldest.reason) == (1, "overload")
        newest_first = accumulate(reversed(sizes), initial=len(oldest.text) + len(last.text))
        fit = sum(total <= limit_bytes for total in newest_first) - 1
        assert len(kept) >= min(limit - 2, fit - 1)  # each time one more than needed may have gone into the gap


def test_what_came_back_is_next_again() -> None:
    """Records that could not be sent keep their place before those that came meanwhile."""
    outbox = Outbox(10)
    outbox.put([line(1), line(2), line(3)])
    taken = outbox.take(2)
    outbox.put([line(4)])
    outbox.give_back(taken)
    assert [record.n for record in outbox.take(10)] == [1, 2, 3, 4]


def test_what_was_refused_is_told() -> None:
    """What Redis does not take although it is there is a gap with that reason; two such in a row are one."""
    outbox = Outbox(10)
    outbox.put([line(1), line(2), line(3), line(4)])
    outbox.refuse(outbox.take(2))
    assert outbox.take(1) == [
        Gap(n=2, timestamp=AT, skipped=2, first=1, last=2, reason="redis"),
    ]
    assert [record.n for record in outbox.take(5)] == [3, 4]


def test_a_refused_half_line_is_no_loss() -> None:
    """The unfinished state of a line is replaced by the line: nothing is missing without it."""
    outbox = Outbox(10)
    outbox.put([partial(1)])
    outbox.refuse(outbox.take(1))
    assert not outbox


@pytest.mark.parametrize("size", [5_000_000, 1])
def test_one_record_always_fits(size: int) -> None:
    """A line longer than all that may wait is not lost for its length alone."""
    outbox = Outbox(1)
    outbox.put([line(1, "x" * size)])
    assert [record.n for record in outbox.take(1)] == [1]
    assert not outbox


def test_making_room() -> None:
    """The oldest logs are counted, the newest of each and all ends are kept; of ended ones nobody saw, so many stay."""
    logs = {f"{number:016x}": waiting(number, ended=number < 30) for number in range(40)}
    before = sum(log.outbox.weight for log in logs.values())
    make_room(logs, 10)
    assert sum(log.outbox.weight for log in logs.values()) < 48 * 1024 * 1024 < before
    assert [int(name, 16) for name in logs] == list(range(20, 40))
    for log in logs.values():
        check_whole(log.outbox.take(10_000), 1000)
    assert logs[f"{39:016x}"].outbox.weight == 0


def waiting(number: int, *, ended: bool) -> Waiting:
    """An attempt that waits with 2 MB of lines."""
    outbox = Outbox(10_000)
    outbox.put([line(n, "x" * 2000) for n in range(1, 1001)])
    attempt = Attempt(attempt=f"{number:016x}", task_id=f"task-{number}")
    return Waiting(attempt, outbox, resumed=False, ended=ended)
