"""An attempt's log: whatever frames come, its records are numbered 1, 2, 3 … and the same frames give the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.attempts import Attempt
from celery_livelog.frames import END, EVENT, GAP, LOG, LOG_STREAM, MASK, RAW, STDERR, STDOUT, TEXT, Frame
from celery_livelog.lines import WHOLE_LINE
from celery_livelog.records import End, Gap, Line, Record, StageStart, Trace, encode
from celery_livelog.redact import Redactor
from celery_livelog.runs import Run
from celery_livelog.shipper.attempt import AttemptLog
from celery_livelog.shipper.log_state import LogState
from celery_livelog.shipper.redaction import Redactions
from tests.unit.journals import lines, skipped

SECOND = 1_000_000_000
AT = "1970-01-01T00:00:01.000000+00:00"


def new_log() -> AttemptLog:
    return AttemptLog(Attempt(attempt="00aa11bb", task_id="a-task", started=AT))


def frame(kind: int, payload: bytes | dict[str, Any], stream: int = 0, channel: int = 0, time: int = SECOND) -> Frame:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Frame(kind, stream, 1, channel, time, 0, 0, data)


def text(data: bytes, stream: int = STDOUT, channel: int = 0, time: int = SECOND, stage: int = 0) -> Frame:
    return frame(TEXT, data, stream, channel, time)._replace(stage=stage)


def gap(count: int) -> Frame:
    return frame(GAP, {"lines": count, "reason": "overload"})


def end(state: str = "SUCCESS", exit_code: int = 0) -> Frame:
    return frame(END, {"state": state, "exit_code": exit_code, "reason": ""})


def event(kind: str, stage: int, **fields: Any) -> Frame:
    return frame(EVENT, {"type": kind, "stage": stage, "name": "Build", **fields})


def logged(message: bytes) -> Frame:
    return frame(LOG, b"INFO\0logger\0" + message, LOG_STREAM)


def feed(*frames: Frame) -> list[Record]:
    log = new_log()
    return [record for one in frames for record in log.feed(one)]


def start(record: Record) -> int:
    """The first number that a record stands for."""
    return record.first if isinstance(record, Gap) else record.n


OUTPUT = st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\xff", "€".encode(), b"\xe2"]), max_size=12).map(b"".join)
FRAMES = st.lists(
    st.one_of(
        st.builds(text, OUTPUT, st.sampled_from([STDOUT, STDERR]), st.integers(0, 2)),
        st.builds(frame, st.just(RAW), OUTPUT, st.sampled_from([STDOUT, STDERR])),
        st.builds(logged, OUTPUT),
        st.builds(gap, st.integers(1, 50)),
        st.builds(event, st.sampled_from(["stage_start", "stage_complete", "nonsense"]), st.integers(1, 3)),
        st.builds(frame, st.just(EVENT), OUTPUT),
        st.builds(frame, st.sampled_from([0, 99]), OUTPUT),
    ),
    max_size=30,
)


def resumed(log: AttemptLog) -> AttemptLog:
    """What another shipper goes on with."""
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(log.state()), type=LogState)
    return AttemptLog.resume(state, Redactions(Redactor()))


@given(FRAMES, st.data())
def test_another_shipper_goes_on_anywhere(frames: list[Frame], data: st.DataObject) -> None:
    """Between any two frames: the records and what is known of the attempt in the end are the same."""
    log, straight = new_log(), new_log()
    at = data.draw(st.integers(0, len(frames)))
    found = [record for one in frames[:at] for record in log.feed(one)]
    log = resumed(log)
    found += [record for one in (*frames[at:], end()) for record in log.feed(one)]
    assert found == [record for one in (*frames, end()) for record in straight.feed(one)]
    assert log.attempt == straight.attempt


def test_another_shipper_knows_the_stages() -> None:
    """Those that are open, and that in which an unfinished line was written."""
    first = new_log()
    for one in (event("stage_start", 1), event("stage_start", 2), text(b"unfinished", stage=1)):
        first.feed(one)
    second = resumed(first)
    found = second.feed(frame(RAW, b"raw\n", STDERR)) + second.feed(end())
    assert [(record.line, record.stage) for record in found if isinstance(record, Line)] == [
        ("raw", 2), ("unfinished", 1),
    ]  # fmt: skip


def test_another_shipper_hides_what_was_masked() -> None:
    """Also a secret of which one piece of an overlong line has the beginning."""
    secret = b"s3cr3t-of-the-task"
    log = Redactions(Redactor()).of([b"known before"], ["num[0-9]+"])
    first = AttemptLog(Attempt(attempt="00aa11bb", task_id="a-task", started=AT), log)
    found = first.feed(frame(MASK, secret))
    found += first.feed(text(b"x" * (WHOLE_LINE - 5) + secret[:12]))
    second = resumed(first)
    found += second.feed(text(secret[12:] + b" known before num123\n"))
    shown = "".join(record.line for record in found if isinstance(record, Line))
    assert shown == "x" * (WHOLE_LINE - 5) + "*** *** ***"


def begun(run_id: str) -> Frame:
    return frame(EVENT, {"type": "run_start", "run_id": run_id, "started": AT})


def left(run_id: str) -> Frame:
    return frame(EVENT, {"type": "run_end", "run_id": run_id, "state": "SUCCESS", "elapsed": 1.0})


@pytest.mark.parametrize("sent", [None, Run(run_id="sent", started=AT)])
@pytest.mark.parametrize("goes_on", [False, True])
def test_records_are_made_in_the_innermost_run(sent: Run | None, goes_on: bool) -> None:
    """In the one that was begun last and not left; outside of all, in the attempt's own. Another shipper knows, too."""
    log = AttemptLog(Attempt(attempt="00aa11bb", task_id="a-task", started=AT), run=sent)
    story = [text(b"before\n"), begun("first"), text(b"in\n"), begun("second"), text(b"in\n"), left("second")]
    story += [text(b"in\n"), left("first"), text(b"after\n"), left("unknown"), begun("third"), end("LOST", 137)]
    found = []
    for one in story:
        log = resumed(log) if goes_on else log
        assert log.feed(one)
        found.append(log.innermost_run and log.innermost_run.run_id)
    own = "sent" if sent else "first"
    assert found == [sent and "sent", *["first"] * 2, *["second"] * 3, *["first"] * 2, *[own] * 2, *["third"] * 2]
    assert log.run is not None
    assert log.run.run_id == own


@given(FRAMES)
def test_numbers_have_no_holes(frames: list[Frame]) -> None:
    """From 1 to the end, each number is one record's or in one gap; that holds for unreadable events as well."""
    found = feed(*frames, end())
    at = 1
    for record in found:
        assert start(record) == at
        assert record.n >= at
        at = record.n + 1
    if found:
        assert isinstance(found[-1], End)


@given(FRAMES)
def test_the_same_frames_give_the_same_records(frames: list[Frame]) -> None:
    """A shipper that starts anew gives every record the number and time that the one before it gave."""
    assert feed(*frames, end()) == feed(*frames, end())


@given(FRAMES)
def test_the_attempt_is_kept_up(frames: list[Frame]) -> None:
    """What catalog and manifest say of lines, gaps and end is what the log holds."""
    log = new_log()
    found = [record for one in (*frames, end("FAILURE", 1)) for record in log.feed(one)]
    assert log.attempt.lines == len(lines(found))
    assert log.attempt.skipped == skipped(found)
    assert (log.attempt.state, log.attempt.exit_code, log.attempt.ended) == ("FAILURE", 1, AT)
    assert log.ended
    assert log.silent == (not found)


@given(st.lists(st.tuples(st.integers(0, 1), OUTPUT), max_size=15), st.lists(st.integers(0, 200), max_size=10))
def test_the_same_output_gives_the_same_lines(writes: list[tuple[int, bytes]], places: list[int]) -> None:
    """How a thread's output is divided into frames makes no difference to its lines."""
    for thread in (0, 1):
        whole = b"".join(data for by, data in writes if by == thread)
        cuts = sorted(min(place, len(whole)) for place in places)
        divided = [text(whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        alone = lines(feed(text(whole), end()))
        assert lines(feed(*divided, end())) == alone
        mixed = feed(*(text(data, channel=by) for by, data in writes), end())
        assert sorted(line for line in lines(mixed)) == sorted(
            line
            for by in (0, 1)
            for line in lines(feed(text(b"".join(data for writer, data in writes if writer == by)), end()))
        )


def test_threads_and_raw_bytes_do_not_mix() -> None:
    """Halves of lines that threads and subprocesses leave are each their own line."""
    found = feed(
        text(b"one", channel=1),
        text(b"two", channel=2),
        frame(RAW, b"raw", STDOUT),
        text(b" err", STDERR, channel=1),
        text(b" and on\n", channel=1),
        frame(RAW, b" and on\n", STDOUT),
        end(),
    )
    assert lines(found) == [
        ("stdout", "one and on"), ("stdout", "raw and on"), ("stdout", "two"), ("stderr", " err"),
    ]  # fmt: skip


def test_a_gap_takes_the_numbers_of_what_is_missing() -> None:
    """After 3 lines and 15 that were not written, the next line is the 19th."""
    found = feed(text(b"1\n2\n3\n"), gap(15), text(b"19\n"), end())
    missing = found[3]
    assert isinstance(missing, Gap)
    assert (missing.first, missing.last, missing.skipped, missing.n, missing.reason) == (4, 18, 15, 18, "overload")
    assert [record.n for record in found] == [1, 2, 3, 18, 19, 20]


def test_lines_have_the_stage_in_which_they_were_written() -> None:
    """It comes with them, so that stages of several threads may begin and end in any order."""
    found = feed(
        text(b"none\n"),
        event("stage_start", 1),
        text(b"in 1\n", stage=1),
        event("stage_start", 2),
        logged(b"in 2")._replace(stage=2),
        text(b"in 1\n", stage=1),
        event("stage_complete", 1, elapsed=1.0),
        text(b"in 2, ", STDERR, stage=2),
        event("stage_error", 2, elapsed=1.0, error="no"),
        text(b"none\n"),
        end(),
    )
    assert [(record.line, record.stage) for record in found if isinstance(record, Line)] == [
        ("none", None), ("in 1", 1), ("in 2", 2), ("in 1", 1), ("none", None), ("in 2, ", 2),
    ]  # fmt: skip


def test_subprocesses_print_in_the_stage_that_was_begun_last() -> None:
    """Of raw bytes nobody knows who has written them: they belong to the last one that is open."""
    found = feed(
        frame(RAW, b"none\n", STDOUT),
        event("stage_start", 1),
        event("stage_start", 2),
        frame(RAW, b"in 2\n", STDOUT),
        event("stage_complete", 2, elapsed=1.0),
        frame(RAW, b"in 1\n", STDERR),
        event("stage_complete", 1, elapsed=1.0),
        frame(RAW, b"none\n", STDOUT),
    )
    assert [(record.line, record.stage) for record in found if isinstance(record, Line)] == [
        ("none", None), ("in 2", 2), ("in 1", 1), ("none", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "payload",
    [b"", b"no JSON", b"[]", b"{}", b'{"type":"stage_start"}', b'{"type":"nonsense"}', b'{"type":5,"stage":{}}'],
)
def test_an_event_that_is_none_is_shown(payload: bytes) -> None:
    """What cannot be read as an event is a record with the text in it; the log goes on."""
    unreadable, line = feed(frame(EVENT, payload), text(b"on\n"))
    assert isinstance(unreadable, Trace)
    assert (unreadable.event, unreadable.data) == ("unreadable", payload.decode())
    assert line.n == 2


def test_the_end_closes_unfinished_lines() -> None:
    """What was printed without a newline is a line of its own before the end."""
    *found, last = feed(text(b"no newline"), text(b"err", STDERR), end("REVOKED", 1))
    assert lines(found) == [("stdout", "no newline"), ("stderr", "err")]
    assert last == End(n=3, timestamp=AT, state="REVOKED", exit_code=1)


def test_after_the_end_comes_nothing() -> None:
    """Frames that a late thread wrote, or a second end, are not of this attempt."""
    log = new_log()
    for one in (text(b"line\n"), end()):
        log.feed(one)
    assert [log.feed(one) for one in (text(b"late\n"), gap(3), logged(b"late"), end("FAILURE", 1))] == [[]] * 4
    assert (log.state().n, log.attempt.state) == (2, "SUCCESS")


def test_a_silent_attempt_that_went_well_has_no_records() -> None:
    """An attempt that printed nothing ends without a record, and says in its row how it ended."""
    log = new_log()
    assert log.feed(end("SUCCESS", 0)) == []
    assert log.silent
    assert (log.attempt.state, log.attempt.exit_code) == ("SUCCESS", 0)


def test_a_silent_attempt_that_failed_says_so() -> None:
    """A log of one line: that nothing was printed does not mean that nothing happened."""
    log = new_log()
    (only,) = log.feed(end("FAILURE", 1))
    assert isinstance(only, End)
    assert (only.n, only.state, log.silent) == (1, "FAILURE", False)


def test_times_are_those_of_the_writes() -> None:
    """A line has the time at which it was finished, and times come from the frames alone."""
    found = feed(text(b"begun ", time=1 * SECOND), text(b"finished\n", time=2 * SECOND), logged(b"logged"))
    assert [record.timestamp for record in found] == ["1970-01-01T00:00:02.000000+00:00", AT]


def test_logger_and_level_of_any_bytes() -> None:
    """A name that is no UTF-8 is made visible."""
    (line,) = feed(frame(LOG, b"LEV\xff\0log\xffger\0text", LOG_STREAM))
    assert isinstance(line, Line)
    assert (line.level, line.logger, line.line) == ("LEV\\xff", "log\\xffger", "text")


def test_previews_are_unfinished_lines() -> None:
    """A live view sees a prompt or a bar, under the number it will have; and only what has changed since."""
    log = new_log()
    log.feed(text(b"done\n"))
    assert log.previews(SECOND) == []
    log.feed(text(b"50%\r", STDERR))
    log.feed(text(b"Name: "))
    assert log.unfinished
    found = sorted(log.previews(SECOND), key=lambda partial: partial.stream)
    assert [(partial.n, partial.stream, partial.line, partial.redrawn) for partial in found] == [
        (2, "stderr", "50%", True), (2, "stdout", "Name: ", False),
    ]  # fmt: skip
    assert log.previews(SECOND) == []
    assert log.feed(text(b"x\n"))[0].n == 2


def test_every_record_goes_over_the_wire() -> None:
    """What comes out can be encoded, whatever went in."""
    found = feed(text(b"\xff\xfe\x00\n"), frame(EVENT, b'{"type":"trace","event":"e","data":[1e999]}'), end())
    assert all(msgspec.json.decode(encode(record)) for record in found)
    assert isinstance(feed(event("stage_start", 1))[0], StageStart)
