"""Which records are shown, whole lines of pieces, and the last ones of a log."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_livelog.records import End, Gap, Line, Partial, Record, StageComplete, StageStart
from celery_livelog.selection import Joiner, Selection, Tail

AT = "2026-01-02T03:04:05.000006+00:00"
_FIELDS: dict[str, Any] = {"n": 1, "timestamp": AT}

OUT = Line(stream="stdout", line="an error in the output", **_FIELDS)
ERR = Line(stream="stderr", line="complaint", **_FIELDS)
INFO = Line(stream="log", line="info", level="INFO", **_FIELDS)
ERROR = Line(stream="log", line="error", level="ERROR", **_FIELDS)
ODD = Line(stream="log", line="odd", level="NOTICE", **_FIELDS)
OWN = Line(stream="log", line="own", level="Level 35", **_FIELDS)
STAGE = StageStart(stage=2, name="Compile", **_FIELDS)
IN_STAGE = Line(stream="stdout", line="cc", stage=2, **_FIELDS)
STAGE_END = StageComplete(stage=2, name="Compile", elapsed=1.0, **_FIELDS)
OLD = Line(n=1, timestamp="2026-01-02T03:00:00.000000+00:00", stream="stdout", line="old")
LOG: list[Record] = [OLD, OUT, ERR, INFO, ERROR, ODD, OWN, STAGE, IN_STAGE, STAGE_END]

_CHOICES: list[tuple[dict[str, Any], list[Record]]] = [
    ({}, LOG),
    ({"streams": {"stderr"}}, [ERR]),
    ({"streams": {"stderr", "stdout"}}, [OLD, OUT, ERR, IN_STAGE]),
    ({"streams": {"internal"}}, [STAGE, STAGE_END]),
    ({"level": 30}, [ERROR, ODD, OWN]),
    ({"level": 40}, [ERROR, ODD]),
    ({"level": 10, "streams": {"stdout"}}, []),
    ({"stage": "2"}, [STAGE, IN_STAGE, STAGE_END]),
    ({"stage": "compile"}, [STAGE, IN_STAGE, STAGE_END]),
    ({"stage": "3"}, []),
    ({"since": "2026-01-02T03:04:00.000000+00:00"}, LOG[1:]),
    ({"pattern": re.compile("err|Comp")}, [OUT, ERROR, STAGE, STAGE_END]),
    ({"pattern": re.compile("err"), "streams": {"log"}}, [ERROR]),
]


@pytest.mark.parametrize(("conditions", "expected"), _CHOICES)
def test_all_conditions_must_hold(conditions: dict[str, Any], expected: list[Record]) -> None:
    selection = Selection(**conditions)
    assert [record for record in LOG if selection.keeps(1, record)] == expected
    assert selection.everything is (not conditions)


def test_gaps_and_ends_are_always_shown() -> None:
    """Otherwise nobody could tell a part from the whole."""
    selection = Selection(streams=frozenset({"log"}), level=40, stage="x", pattern=re.compile("x"))
    assert selection.keeps(1, Gap(skipped=1, first=1, last=1, reason="trim", **_FIELDS))
    assert selection.keeps(1, End(state="SUCCESS", exit_code=0, **_FIELDS))


def test_the_name_of_a_stage_counts_for_its_own_attempt() -> None:
    """Stage 2 of the next attempt may be another one."""
    selection = Selection(stage="Compile")
    assert selection.keeps(1, STAGE)
    assert selection.keeps(1, IN_STAGE)
    assert not selection.keeps(2, IN_STAGE)


def test_an_unfinished_line_cannot_be_judged_by_its_text() -> None:
    unfinished = Partial(stream="stdout", line="err", **_FIELDS)
    assert Selection(streams=frozenset({"stdout"})).keeps(1, unfinished)
    assert not Selection(streams=frozenset({"stderr"})).keeps(1, unfinished)
    assert not Selection(pattern=re.compile("err")).keeps(1, unfinished)


def test_pieces_are_joined() -> None:
    """Each stream has its own line; those of the live stream share a number, those of the archive do not."""
    joiner = Joiner()
    pieces = [
        Line(n=1, timestamp=AT, stream="stdout", line="a", more=True),
        Line(n=2, timestamp=AT, stream="stderr", line="whole"),
        Line(n=3, timestamp=AT, stream="stdout", line="b", piece=1, more=True),
        Line(n=4, timestamp=AT, stream="stdout", line="c", piece=2),
        Line(n=5, timestamp=AT, stream="stdout", line="next"),
    ]
    joined = [record for piece in pieces if (record := joiner.feed(1, piece)) is not None]
    assert joined == [pieces[1], Line(n=4, timestamp=AT, stream="stdout", line="abc"), pieces[4]]


def test_the_tail_counts_no_ends() -> None:
    """Whoever asks for two lines gets two lines, and how the attempt ended."""
    tail = Tail(2)
    end = End(state="SUCCESS", exit_code=0, **_FIELDS)
    log: list[tuple[int, Record]] = [(1, OUT), (1, ERR), (1, end), (2, INFO), (2, end)]
    for number, record in log:
        tail.feed(number, record)
    assert list(tail.records) == [(1, ERR), (1, end), (2, INFO), (2, end)]


def test_a_tail_of_nothing() -> None:
    tail = Tail(0)
    tail.feed(1, OUT)
    assert not tail.records
