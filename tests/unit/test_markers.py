"""Markers in the output of scripts make stages: those of GitHub, Buildkite and GitLab, if they are looked for."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.attempts import Attempt
from celery_livelog.frames import END, EVENT, RAW, STDERR, STDOUT, TEXT, Frame
from celery_livelog.lines import WHOLE_LINE
from celery_livelog.records import End, Line, Record, StageComplete, StageError, StageStart, encode
from celery_livelog.redact import Redactor
from celery_livelog.shipper.attempt import AttemptLog
from celery_livelog.shipper.log_state import LogState
from celery_livelog.shipper.redaction import Redactions

SECOND = 1_000_000_000
ALL = ("github", "buildkite", "gitlab")


def new_log(*dialects: str) -> AttemptLog:
    attempt = Attempt(attempt="00aa11bb", task_id="a-task", started="1970-01-01T00:00:01.000000+00:00")
    return AttemptLog(attempt, Redactions(Redactor()).of([], []), markers=dialects)


def text(data: bytes | str, stage: int = 0, time: int = SECOND, stream: int = STDOUT, kind: int = TEXT) -> Frame:
    return Frame(kind, stream, 1, 0, time, 0, 0, data if isinstance(data, bytes) else data.encode(), stage)


def event(kind: str, stage: int, **fields: Any) -> Frame:
    payload = json.dumps({"type": kind, "stage": stage, "name": "own", **fields})
    return Frame(EVENT, 0, 1, 0, SECOND, 0, 0, payload.encode())


def end(state: str = "SUCCESS", exit_code: int = 0, reason: str = "") -> Frame:
    payload = json.dumps({"state": state, "exit_code": exit_code, "reason": reason})
    return Frame(END, 0, 1, 0, 2 * SECOND, 0, 0, payload.encode())


def feed(log: AttemptLog, *frames: Frame) -> list[Record]:
    found = [record for one in frames for record in log.feed(one)]
    assert [record.n for record in found] == list(range(found[0].n, found[0].n + len(found))) if found else True
    return found


def told(found: list[Record]) -> list[str]:
    """The records, short: a line with its stage, and how stages begin and end."""
    shown = []
    for record in found:
        if isinstance(record, Line):
            shown.append(f"{'-' if record.stage is None else record.stage} {record.line}")
        elif isinstance(record, StageStart):
            shown.append(f"{record.stage} begins: {record.name}")
        elif isinstance(record, StageComplete):
            shown.append(f"{record.stage} complete")
        elif isinstance(record, StageError):
            shown.append(f"{record.stage} error: {record.error}")
    return shown


def test_github() -> None:
    """Groups do not nest; a line is kept as it was printed, whatever it means."""
    script = "before\n::group::Build it\ngcc\n  ::group::Test%0A100%25\npytest\n::endgroup::\nafter\n::endgroup::\n"
    assert told(feed(new_log("github"), text(script), end())) == [
        *("- before", "1 begins: Build it", "1 ::group::Build it", "1 gcc"),
        *(
            "1 complete",
            "2 begins: Test 100%",
            "2   ::group::Test%0A100%25",
            "2 pytest",
            "2 ::endgroup::",
            "2 complete",
        ),
        *("- after", "- ::endgroup::"),
    ]


def test_buildkite() -> None:
    """A group goes on until the next one, or the end of the task."""
    script = "--- :docker: Build\none\n\x1b[33m+++ Test\x1b[0m\ntwo\n^^^ +++\n~~~ Quiet\n---\n----\n---x\n"
    assert told(feed(new_log("buildkite"), text(script), end())) == [
        *("1 begins: :docker: Build", "1 --- :docker: Build", "1 one", "1 complete"),
        *("2 begins: Test", "2 \x1b[33m+++ Test\x1b[0m", "2 two", "2 ^^^ +++", "2 complete"),
        *("3 begins: Quiet", "3 ~~~ Quiet", "3 complete", "4 begins: ", "4 ---", "4 ----", "4 ---x", "4 complete"),
    ]


def test_gitlab() -> None:
    """Sections nest by name; a line shows what a terminal shows, which is the title."""
    script = (
        "section_start:1560896352:build[collapsed=true]\r\x1b[0K\x1b[36mBuild it\x1b[0m\n"
        "gcc\n"
        "section_start:1560896353:inner\r\x1b[0K\n"
        "section_end:1560896354:unknown\r\x1b[0K\n"
        "ld\n"
        "section_end:1560896354:build\r\x1b[0Ksection_start:1560896355:test\r\x1b[0KTest\n"
        "section_end:1560896355:test\n"
        "10%\r20%\n"
    )
    assert told(feed(new_log("gitlab"), text(script), end())) == [
        *("1 begins: Build it", "1 \x1b[0K\x1b[36mBuild it\x1b[0m", "1 gcc"),
        *("2 begins: inner", "2 \x1b[0K", "2 \x1b[0K", "2 ld", "2 complete", "1 complete"),
        *("3 begins: Test", "3 \x1b[0KTest", "3 section_end:1560896355:test", "3 complete", "- 20%"),
    ]


def test_errors_and_warnings_have_a_level() -> None:
    """An error is also how the group ends in which it was printed."""
    script = (
        "::group::Lint\n::warning file=a.py,line=1::too long\n::error::no such name: a%3Ab\n::endgroup::\n::debug::x\n"
    )
    found = feed(new_log("github"), text(script), end())
    assert [(record.level, record.line) for record in found if isinstance(record, Line) and record.level] == [
        ("WARNING", "::warning file=a.py,line=1::too long"),
        ("ERROR", "::error::no such name: a%3Ab"),
        ("DEBUG", "::debug::x"),
    ]
    assert "1 error: no such name: a%3Ab" in told(found)


@pytest.mark.parametrize("secret", ["hunter2-hunter2", "xy"])
def test_add_mask_hides_its_value(secret: str) -> None:
    """In its own line, while that is not ended as well, and from then on; a short one only there."""
    log = new_log("github")
    found = feed(log, text(f"::add-mask::{secret[:-1]}"))
    (preview,) = log.previews(SECOND)
    assert preview.line == "::add-mask::***"
    found += feed(log, text(f"{secret[-1]}\n::group::{secret}\nit is {secret}\n"), end("FAILURE", 1, f"no {secret}"))
    assert found[0].text == "::add-mask::***"
    if len(secret) > 5:
        assert all(secret not in encode(record).decode() for record in found)
        assert "1 begins: ***" in told(found)


def test_a_secret_of_many_lines_and_a_huge_one() -> None:
    """Each line of it is secret; of one that is longer than a line may be, no piece is shown."""
    found = feed(new_log("github"), text("::add-mask::first line%0Asecond line\nthe second line\n"))
    assert [record.text for record in found] == ["::add-mask::***", "the ***"]
    huge = feed(new_log("github"), text(b"::add-mask::" + b"0123456789" * (WHOLE_LINE // 5) + b"\nafter\n"))
    assert not any("0123456789" in record.text for record in huge)
    assert huge[-1].text == "after"


def test_markers_can_be_stopped() -> None:
    """What is printed until the token comes is no marker: nobody can make one with text of others."""
    script = "::stop-commands::tok3n\n::group::No\n::add-mask::visible\nvisible\n::other::\n::tok3n::\n::group::Yes\n"
    assert told(feed(new_log("github"), text(script), end())) == [
        *("- ::stop-commands::tok3n", "- ::group::No", "- ::add-mask::visible", "- visible", "- ::other::"),
        *("- ::tok3n::", "1 begins: Yes", "1 ::group::Yes", "1 complete"),
    ]


def test_numbers_are_those_of_all_stages() -> None:
    """Stages of the task's code and of markers are numbered in order, and one that goes on takes others along."""
    found = feed(
        new_log("buildkite"),
        text("--- Outer\n"),
        event("stage_start", 1),
        text("own\n", stage=1),
        text("--- Inner\n", stage=1),
        text("subprocess\n", kind=RAW, stream=STDERR),
        event("stage_start", 2),
        text("own too\n", stage=2),
        event("stage_progress", 2, done=1),
        event("stage_complete", 2, elapsed=1.0),
        event("trace", 1, event="seen"),
        event("stage_complete", 1, elapsed=1.0),
        text("outer\n"),
        end(),
    )
    assert told(found) == [
        *("1 begins: Outer", "1 --- Outer", "2 begins: own", "2 own"),
        *("3 begins: Inner", "3 --- Inner", "3 subprocess", "4 begins: own", "4 own too", "4 complete"),
        *("3 complete", "2 complete", "1 outer", "1 complete"),
    ]
    assert [getattr(record, "stage", None) for record in found if record.text.startswith("seen")] == [2]


@pytest.mark.parametrize(
    ("ending", "told_last"),
    [
        (end("FAILURE", 1, "ValueError: no"), "1 error: ValueError: no"),
        (end("SUCCESS"), "1 complete"),
        (end("FAILURE", 137, "killed"), "1 --- Open"),
    ],
)
def test_an_open_stage_ends_with_its_task(ending: Frame, told_last: str) -> None:
    """As the task does; one that a kill has left open stays open, as those of its code do."""
    found = feed(new_log("buildkite"), text("--- Open\n"), ending)
    assert isinstance(found[-1], End)
    assert told(found)[-1] == told_last


def test_without_the_setting_a_marker_is_a_line() -> None:
    """Nothing is looked for that was not asked for; other dialects than the one asked for neither."""
    script = "::group::a\n--- b\nsection_start:1:c\r\x1b[0KC\n::add-mask::visible-value\n"
    lines = ["- ::group::a", "- --- b", "- \x1b[0KC", "- ::add-mask::visible-value"]
    assert told(feed(new_log(), text(script), end())) == lines
    assert told(feed(new_log("gitlab"), text("::group::a\n--- b\n::add-mask::visible-value\n"))) == [
        lines[0], lines[1], lines[3],
    ]  # fmt: skip


def resumed(log: AttemptLog) -> AttemptLog:
    """What another shipper goes on with."""
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(log.state()), type=LogState)
    return AttemptLog.resume(state, Redactions(Redactor()), ALL)


def test_another_shipper_goes_on_at_every_byte() -> None:
    """In a marker, in a group, while markers are stopped: the records are the same."""
    script = (
        b"::group::A\na\n::add-mask::made-up\nmade-up\n::stop-commands::t\n::group::no\n::t::\n::error::no\n--- B\nb\n"
        b"section_start:1:c\r\x1b[0KC\nc\nsection_end:2:c\r\x1b[0Ksection_start:2:d\r\x1b[0K\n1%\r2%\n::endgroup::\nlast"
    )
    begun = event("stage_start", 1)
    straight = feed(new_log(*ALL), begun, text(script, stage=1), end())
    assert [record.name for record in straight if isinstance(record, StageStart)] == ["own", "A", "B", "C", "d"]
    for at in range(len(script)):
        first = new_log(*ALL)
        found = feed(first, begun, text(script[:at], stage=1))
        assert found + feed(resumed(first), text(script[at:], stage=1), end()) == straight


PARTS = (
    *(b"text", b"\n", b"\r", b"\r\n", b"\x1b[0K", b"::", b"group::", b"::group::Build\n", b"::endgroup::\n"),
    *(b"::error::no\n", b"::add-mask::", b"s3cr3t-value", b"::stop-commands::t\n", b"::t::\n", b"--- ", b"+++ Test\n"),
    *(b"section_start:1:a\r\x1b[0K", b"section_end:1:a\r", b"section_start:2:b", b"\xff", "é".encode()),
)
OUTPUT = st.lists(st.sampled_from(PARTS), max_size=40).map(b"".join)


@st.composite
def chunked(draw: st.DrawFn) -> list[bytes]:
    """Some output, cut at any places."""
    output = draw(OUTPUT)
    places = sorted(draw(st.lists(st.integers(0, len(output)), max_size=12)))
    return [output[start:end] for start, end in pairwise([0, *places, len(output)])]


@given(chunked())
def test_the_same_bytes_give_the_same_records(chunks: list[bytes]) -> None:
    """However they were written, and all lines are those that there are without markers."""
    found = feed(new_log(*ALL), *map(text, chunks), end())
    assert found == feed(new_log(*ALL), text(b"".join(chunks)), end())
    plain = [record for record in feed(new_log(), *map(text, chunks), end()) if isinstance(record, Line)]
    lines = [record for record in found if isinstance(record, Line)]
    if b"add-mask" not in b"".join(chunks):
        assert [record.line for record in lines] == [record.line for record in plain]
    assert len(lines) >= len(plain)


@given(chunked(), st.data())
def test_another_shipper_goes_on_anywhere(chunks: list[bytes], data: st.DataObject) -> None:
    """Between any two writes, in any stage, with markers stopped or not: the records are the same."""
    frames = [event("stage_start", 1), *map(text, chunks), event("stage_complete", 1, elapsed=1.0), text("x\n"), end()]
    at = data.draw(st.integers(0, len(frames) - 1))
    log = new_log(*ALL)
    found = feed(log, *frames[:at])
    found += feed(resumed(log), *frames[at:])
    assert found == feed(new_log(*ALL), *frames)


@given(OUTPUT)
def test_every_stage_ends_once(output: bytes) -> None:
    """Numbers go up from 1, and a line belongs to a stage that is open, or to one that ends with it."""
    opened: set[int] = set()
    begun = 0
    for record in feed(new_log(*ALL), text(output), end()):
        if isinstance(record, StageStart):
            begun += 1
            assert record.stage == begun
            opened.add(begun)
        elif isinstance(record, (StageComplete, StageError)):
            opened.remove(record.stage)
        elif isinstance(record, Line) and record.stage is not None:
            assert record.stage in opened
    assert not opened
