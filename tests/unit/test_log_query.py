"""What a request for a log asks for, and what it takes of a log."""

from __future__ import annotations

import pytest

from celery_livelog.cursors import Cursor
from celery_livelog.records import End, Gap, Line, Partial, Record, StageStart
from celery_livelog.web.log_query import LONGEST_WAIT, LogQuery

NOW = "2026-11-23T08:00:00.000000+00:00"

OUT = Line(n=1, timestamp=NOW, stream="stdout", line="plain output")
ERR = Line(n=2, timestamp=NOW, stream="stderr", line="a complaint", stage=2)
INFO = Line(n=3, timestamp=NOW, stream="log", line="all is well", level="INFO")
ERROR = Line(n=4, timestamp=NOW, stream="log", line="it is not", level="ERROR", stage=2)
STAGE = StageStart(n=5, timestamp=NOW, stage=2, name="Compile")
GAP = Gap(n=9, timestamp=NOW, skipped=4, first=6, last=9, reason="overload")
END = End(n=10, timestamp=NOW, state="SUCCESS", exit_code=0)
PARTIAL = Partial(n=10, timestamp=NOW, stream="stdout", line="plain ou")

ALL: list[Record] = [OUT, ERR, INFO, ERROR, STAGE, GAP, END, PARTIAL]


def taken(**arguments: str) -> list[Record]:
    query = LogQuery.parse(arguments)
    return [record for record in ALL if query.takes(1, record)]


def test_no_arguments_take_all_but_unfinished_lines() -> None:
    """Without arguments the answer is the whole log as text."""
    assert LogQuery.parse({}) == LogQuery(format="text", follow=False, wait=0)
    assert taken() == ALL[:-1]


@pytest.mark.parametrize(
    ("arguments", "records"),
    [
        ({"stream": "stdout"}, [OUT]),
        ({"stream": "stdout,stderr"}, [OUT, ERR]),
        ({"stream": "internal"}, [STAGE]),
        ({"level": "info"}, [INFO, ERROR]),
        ({"level": "WARNING"}, [ERROR]),
        ({"stage": "2"}, [ERR, ERROR, STAGE]),
        ({"stage": "compile"}, [STAGE]),
        ({"lines": "2-3"}, [ERR, INFO]),
        ({"grep": "is"}, [INFO, ERROR]),
        ({"grep": "i.*"}, []),
        ({"grep": "is", "stage": "2"}, [ERROR]),
    ],
)
def test_filters_add_up_and_never_hide_a_gap_or_the_end(arguments: dict[str, str], records: list[Record]) -> None:
    """Every filter must agree; a gap and the end are shown with whatever is left; grep is a text, not a pattern."""
    assert taken(**arguments) == [*records, *([] if "lines" in arguments else [GAP, END])]


def test_places_in_the_log() -> None:
    """Cursor, tail, attempt and a range of lines are read."""
    query = LogQuery.parse({"after": "3f2a90bc77d01e44:120", "tail": "5", "attempt": "2", "lines": "7-9"})
    assert query.after == Cursor("3f2a90bc77d01e44", 120)
    assert (query.tail, query.attempt, query.lines) == (5, 2, (7, 9))
    assert LogQuery.parse({"lines": "7"}).lines == (7, 7)
    assert taken(lines="7") == [GAP]


def test_waiting_is_bounded() -> None:
    """No request is held longer than a proxy lets it."""
    assert LogQuery.parse({"wait": "2.5"}).wait == 2.5
    assert LogQuery.parse({"wait": "86400"}).wait == LONGEST_WAIT


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("format", "html"),
        ("attempt", "0"),
        ("after", "yesterday"),
        ("tail", "-1"),
        ("lines", "9-7"),
        ("stream", "stdout,sideways"),
        ("level", "LOUD"),
        ("follow", "yes"),
        ("wait", "nan"),
        ("tail", "٣"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(name: str, text: str) -> None:
    """The error says which argument, what it was and what it should be."""
    with pytest.raises(ValueError, match=f"^{name} is .*; expected "):
        LogQuery.parse({name: text})


def test_empty_and_unknown_arguments_are_as_if_not_given() -> None:
    """A form sends its empty fields, and a link may carry more than is known today."""
    assert LogQuery.parse({"stream": "", "grep": "", "colour": "blue"}) == LogQuery()
