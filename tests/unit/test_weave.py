"""Several logs in one: in order of time as far as that can be known, each in its own order, nothing lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.reader.merge import Batch
from celery_livelog.reader.weave import Lane, Weave
from celery_livelog.records import Line, utc

SECOND = 1_000_000_000
PATIENCE = 0.25


def batch(attempt: str, *times: int, first: int = 1) -> Batch:
    """Lines that were printed in these seconds."""
    lines = [Line(n=n, timestamp=utc(time * SECOND), stream="stdout", line="") for n, time in enumerate(times, first)]
    return Batch(attempt, 1, [*lines])


def names(weave: Weave, now: float) -> list[tuple[str, list[int]]]:
    return [(name, [record.n for record in given.records]) for name, given in weave.take(now)]


def two() -> tuple[Weave, Lane, Lane]:
    weave = Weave()
    return weave, weave.open("a", PATIENCE, 0), weave.open("b", PATIENCE, 0)


def test_in_order_of_time() -> None:
    """Records of two logs that are both there, those that follow each other together."""
    weave, a, b = two()
    weave.put(a, batch("a1", 1, 2, 5), 0)
    weave.put(b, batch("b1", 3, 4, 6), 0)
    assert names(weave, 0) == [("a", [1, 2]), ("b", [1, 2]), ("a", [3])]
    assert names(weave, 0.1) == []  # a may have something before what is left of b
    weave.put(a, batch("a1", 7, first=4), 0.1)
    assert names(weave, 0.1) == [("b", [3])]
    weave.end(b)
    assert names(weave, 0.1) == [("a", [4])]
    weave.end(a)
    assert (weave.lanes, weave.due) == ({}, None)


def test_a_silent_log_is_waited_for_only_so_long() -> None:
    """Since it was silent, and since there is something that waits."""
    weave, a, _ = two()
    weave.put(a, batch("a1", 1), 10.0)
    assert weave.due == 10.25
    assert names(weave, 10.2) == []
    assert names(weave, 10.25) == [("a", [1])]


def test_an_attempt_keeps_its_order() -> None:
    """Though its times go back; what comes after stands where what came before does."""
    weave, a, b = two()
    weave.put(a, batch("a1", 5, 2, 6), 0)
    weave.put(b, batch("b1", 3, 7), 0)
    assert names(weave, 0) == [("b", [1]), ("a", [1, 2, 3])]


def test_attempts_are_not_mixed() -> None:
    """A batch has the records of one attempt."""
    weave, a, b = two()
    weave.end(b)
    weave.put(a, batch("a1", 1), 0)
    assert names(weave, 0) == [("a", [1])]
    weave.put(a, batch("a2", 2), 0)
    assert names(weave, 0) == [("a", [1])]


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 9), min_size=1, max_size=4)), max_size=12))
def test_nothing_is_lost(given_: list[tuple[int, list[int]]]) -> None:
    """Whatever comes in which order: each log is whole and in its order, and once all waited long enough, empty."""
    weave = Weave()
    lanes = [weave.open(str(place), PATIENCE, 0) for place in range(3)]
    counts, seen, now = [0, 0, 0], [list[int](), [], []], 0.0

    def take() -> None:
        for name, part in weave.take(now):
            seen[int(name)] += [record.n for record in part.records]

    for place, times in given_:
        while lanes[place].pending:
            now += PATIENCE
            take()
        weave.put(lanes[place], batch(str(place), *times, first=counts[place] + 1), now)
        counts[place] += len(times)
        take()
    for lane in lanes:
        weave.end(lane)
    take()
    assert seen == [list(range(1, count + 1)) for count in counts]
    assert weave.lanes == {}
