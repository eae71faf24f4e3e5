"""Records keep what they hold on every way: JSON, Redis fields, cursors."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog import records
from celery_livelog.cursors import Cursor
from celery_livelog.errors import CursorError
from celery_livelog.records import (
    End,
    Gap,
    Line,
    Partial,
    Record,
    StageComplete,
    StageError,
    StageProgress,
    StageStart,
    Trace,
)
from celery_livelog.stores import entries

AT = "2026-01-02T03:04:05.000006+00:00"

EXAMPLES: list[Record] = [
    Line(n=1, timestamp=AT, stream="stdout", line="plain"),
    Line(n=2, timestamp=AT, stream="log", line="logged", level="WARNING", logger="some.library", stage=3),
    Line(n=2, timestamp=AT, stream="log", line="paid", level="INFO", logger="shop", fields={"amount": 5, "to": [None]}),
    Line(n=3, timestamp=AT, stream="stderr", line="a piece", piece=2, more=True),
    Line(n=4, timestamp=AT, stream="stdout", line="17"),
    StageStart(n=5, timestamp=AT, stage=1, name="Compile", pending=10),
    StageProgress(n=6, timestamp=AT, stage=1, name="Compile", done=5, total=10, message="half"),
    StageComplete(n=7, timestamp=AT, stage=1, name="Compile", elapsed=1.5, processed=10, result={"ok": [1, None]}),
    StageError(n=8, timestamp=AT, stage=2, name="Link", elapsed=0.5, error="ValueError: no", traceback="…"),
    Trace(n=9, timestamp=AT, event="fetched", data={"bytes": 12}),
    Gap(n=22, timestamp=AT, skipped=15, first=8, last=22, reason="overload"),
    End(n=23, timestamp=AT, state="SUCCESS", exit_code=0),
    Partial(n=24, timestamp=AT, stream="stdout", line="Loading"),
]


def from_redis(fields: list[str | bytes | int]) -> dict[str, str]:
    """The fields as a client reads them: all of them texts."""
    text = [value.decode() if isinstance(value, bytes) else str(value) for value in fields]
    return dict(zip(text[::2], text[1::2], strict=True))


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_json_keeps_a_record(record: Record) -> None:
    """A record comes back from JSON as it was, and says its type, number and time by these names."""
    wire = json.loads(records.encode(record))
    assert wire.keys() >= {"type", "n", "timestamp"}
    assert records.decode(records.encode(record)) == record


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_redis_fields_keep_a_record(record: Record) -> None:
    """A record comes back from a Redis entry as it was; every entry has the fields that other readers rely on."""
    fields = from_redis(entries.to_fields(record, "3f2a90bc77d01e44"))
    assert fields.keys() >= {"line", "timestamp", "stream", "type", "n", "attempt"}
    assert entries.from_fields(fields) == ("3f2a90bc77d01e44", record)


@given(st.text(st.characters(codec="utf-8")), st.sampled_from(["stdout", "stderr"]), st.integers(1, 10**12))
def test_any_text_is_kept(line: str, stream: str, n: int) -> None:
    """Whatever was printed is what is read, also when it looks like JSON or like a number."""
    record = Line(n=n, timestamp=AT, stream=stream, line=line)
    assert entries.from_fields(from_redis(entries.to_fields(record, "0" * 16))) == ("0" * 16, record)
    assert records.decode(records.encode(record)) == record


def test_a_plain_line_in_redis() -> None:
    """The fields of an ordinary line, to the letter: others read them without this package."""
    fields = from_redis(entries.to_fields(EXAMPLES[0], "3f2a90bc77d01e44"))
    assert fields == {
        "line": "plain",
        "timestamp": AT,
        "stream": "stdout",
        "type": "log_line",
        "n": "1",
        "attempt": "3f2a90bc77d01e44",
    }


def test_a_gap_in_redis_says_how_much_is_missing() -> None:
    """A reader that knows only lines still sees that some were skipped."""
    fields = from_redis(entries.to_fields(EXAMPLES[10], "3f2a90bc77d01e44"))
    assert (fields["stream"], fields["line"]) == ("internal", "[15 messages skipped]")


def test_an_entry_of_somebody_else_is_refused() -> None:
    """Fields that are none of ours raise; they are not taken for a line."""
    with pytest.raises(msgspec.ValidationError):
        entries.from_fields({"line": "hello", "attempt": "3f2a90bc77d01e44"})


@pytest.mark.parametrize(
    ("state", "final"), [("SUCCESS", True), ("FAILURE", True), ("REVOKED", True), ("RETRY", False), ("REJECTED", False)]
)
def test_only_a_tasks_end_is_final(state: str, final: bool) -> None:
    """After a retry or a rejection there is more to come."""
    assert End(n=1, timestamp=AT, state=state, exit_code=0).final is final


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_utc_is_iso_8601_with_microseconds(time_ns: int) -> None:
    """Every time on the wire is the same instant, as any ISO 8601 reader sees it."""
    text = records.utc(time_ns)
    read = datetime.fromisoformat(text)
    assert len(text) == len(AT)
    assert read.tzinfo == timezone.utc
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert (read - epoch).total_seconds() == pytest.approx(time_ns / 1e9, abs=1e-6)


@given(st.from_regex(r"\A[0-9a-f]{8,32}\Z"), st.integers(0, 10**15 - 1))
def test_a_cursor_reads_what_it_writes(attempt: str, n: int) -> None:
    """A cursor goes through a URL and back."""
    assert Cursor.parse(str(Cursor(attempt, n))) == Cursor(attempt, n)


@pytest.mark.parametrize(
    "text",
    ["", ":", "3f2a90bc77d01e44", "3f2a90bc77d01e44:", "3f2a90bc77d01e44:-1", "3F2A90BC:1", "../x:1", "0" * 40 + ":1"],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """The error shows what was given and what a cursor looks like."""
    with pytest.raises(CursorError, match="is not a cursor; expected ATTEMPT:N"):
        Cursor.parse(text)
