"""What a message may be, and what becomes of it: a record each, whatever its sender writes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.access.tokens import Writer
from celery_livelog.attempts import Attempt
from celery_livelog.ingest import writers
from celery_livelog.ingest.messages import BadMessage, EndMessage, LineMessage, parse, time_of
from celery_livelog.ingest.plain_log import PlainLog
from celery_livelog.ingest.writers import NotYours
from celery_livelog.records import Gap, Line, decode, encode
from celery_livelog.redact import Redactor
from celery_livelog.shipper.redaction import Redaction

AT = "2026-05-09T14:23:01+00:00"
TYPES = ["log_line", "log_line_end", "gap", "stage_start", "stage_progress", "stage_complete", "stage_error", "trace"]

texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
names = ["task_id", "work_request_id", "timestamp", "seq", "attempt", "line", "stream", "level", "stage", "fields"]
names += ["exit_code", "state", "reason", "skipped", "name", "done", "total", "elapsed", "error", "event", "data"]
likely = st.sampled_from([1, 42, "42", AT, "stdout", "internal", "[15 messages skipped]", "Compile", 1.5, {"a": [1]}])
messages = st.builds(
    lambda kind, said: {"type": kind, "task_id": 42, **said},
    st.sampled_from(TYPES) | texts,
    st.dictionaries(st.sampled_from(names), likely | values, max_size=8),
)


def new_log() -> PlainLog:
    return PlainLog(Attempt(attempt="a", task_id="42", started=AT), Redaction(Redactor()))


@given(st.binary(max_size=100) | st.text(max_size=100) | messages.map(json.dumps))
def test_whatever_comes_is_a_message_or_told_to_be_none(text: str | bytes) -> None:
    """Nothing else than the one error is raised."""
    with suppress(BadMessage):
        parse(text)


@given(st.lists(messages, max_size=10))
def test_each_message_is_one_record(said: list[dict[str, Any]]) -> None:
    """Numbered on, and one that can be written and read; until the end."""
    log, found = new_log(), []
    for one in said:
        try:
            message = parse(json.dumps({**one, "seq": None}))
        except BadMessage:
            continue
        before, running = log.n, log.attempt.running
        records = log.feed(message, AT)
        found += records
        silent = isinstance(message, EndMessage) and before == 0 and message.ending.state == "SUCCESS"
        assert [record.n for record in records] == ([before + 1] if running and not silent else [])
    assert [decode(encode(record)) for record in found] == found
    assert log.attempt.lines == sum(isinstance(record, Line) for record in found)
    assert log.attempt.skipped == sum(record.skipped for record in found if isinstance(record, Gap))


@given(st.lists(st.integers(1, 30), max_size=40))
def test_numbers_in_any_order(order: list[int]) -> None:
    """What came before is dropped, what never came is a gap: the log goes on without hole or double."""
    log, n = new_log(), 0
    for seq in order:
        for record in log.feed(parse(json.dumps({"type": "log_line", "task_id": 1, "line": str(seq), "seq": seq})), AT):
            assert (record.first if isinstance(record, Gap) else record.n) == n + 1
            n = record.n
            assert isinstance(record, Gap) or record.text == str(seq) == str(n)
        assert n == log.n == max(n, seq)


@pytest.mark.parametrize(
    ("sent", "there"),
    [
        (AT, AT),
        ("2026-05-09T14:23:01.5+00:00", "2026-05-09T14:23:01.5+00:00"),
        ("2026-05-09T14:23:01Z", "2026-05-09T14:23:01.000000+00:00"),
        ("2026-05-09T16:23:01.25+02:00", "2026-05-09T14:23:01.250000+00:00"),
        ("2026-05-09 14:23:01+00:00", "2026-05-09T14:23:01.000000+00:00"),
    ],
)
def test_times(sent: str, there: str) -> None:
    """As they were sent where they are in UTC, else the same moment there."""
    assert time_of(sent) == there


@pytest.mark.parametrize("sent", ["", "now", "2026-05-09T14:23:01", "0001-01-01T00:00:00+05:00", "9" * 100, "12:00Z"])
def test_what_is_no_time(sent: str) -> None:
    """No zone, no date, nothing that can be told in UTC."""
    with pytest.raises(BadMessage, match="expected one such as"):
        time_of(sent)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a\nb\n", "a\\nb"),
        ("a\rb", "a\\rb"),
        ("", ""),
        ("\n", ""),
        ("\ud83d\ude00", "😀"),
    ],
)
def test_line_breaks(sent: str, shown: str) -> None:
    """At the end they are left out, in the middle they are shown."""
    message = parse(json.dumps({"type": "log_line", "task_id": 1, "line": sent}))
    assert isinstance(message, LineMessage)
    assert message.text == shown


@pytest.mark.parametrize(("code", "ending"), [(0, ("SUCCESS", 0)), (3, ("FAILURE", 3)), (-9, ("FAILURE", 137))])
def test_exit_codes(code: int, ending: tuple[str, int]) -> None:
    """That of a signal is told as a shell tells it."""
    message = parse(json.dumps({"type": "log_line_end", "task_id": 1, "exit_code": code}))
    assert isinstance(message, EndMessage)
    assert (message.ending.state, message.ending.exit_code) == ending


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_ids_are_the_writers_own(name: str, other: str, task: str) -> None:
    """Nobody else can give one of them, and nothing but 16 digits is turned into one."""
    given_id = writers.named(task)
    one, two = (Writer(name=who, account="a", expires=0.0) for who in ("x" + name, "y" + other))
    own = writers.own_id(one, task, given_id)
    assert len(own) == 32
    assert writers.is_own(one, task, own)
    assert not writers.is_own(two, task, own)
    assert not writers.is_own(one, task + "x", own)
    with pytest.raises(NotYours):
        writers.own_id(one, task, own)
