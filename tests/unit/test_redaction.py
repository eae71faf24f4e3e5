"""Secrets in an attempt's log: they are in no record and in no field, and all else is as it would be without them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.attempts import Attempt
from celery_livelog.frames import END, EVENT, LOG, LOG_STREAM, MASK, RAW, STDERR, STDOUT, TEXT, Frame
from celery_livelog.lines import WHOLE_LINE
from celery_livelog.records import End, Line, Partial, Record, StageComplete, StageError, Trace, encode
from celery_livelog.redact import Redactor
from celery_livelog.shipper.attempt import AttemptLog
from celery_livelog.shipper.redaction import Redaction, Redactions
from tests.unit.journals import lines

SECRET = "s3cr3t-wörd/1"
AT = "1970-01-01T00:00:01.000000+00:00"


def new_log(*secrets: str, patterns: tuple[str, ...] = (), **fields: Any) -> AttemptLog:
    attempt = Attempt(**{"attempt": "00aa11bb", "task_id": "a-task", "started": AT, **fields})
    return AttemptLog(attempt, Redaction(Redactor(secrets or [SECRET], patterns)))


def frame(kind: int, payload: bytes | dict[str, Any], stream: int = 0, channel: int = 0) -> Frame:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Frame(kind, stream, 1, channel, 1_000_000_000, 0, 0, data)


def text(data: bytes, stream: int = STDOUT, channel: int = 0) -> Frame:
    return frame(TEXT, data, stream, channel)


def event(kind: str, **fields: Any) -> Frame:
    return frame(EVENT, {"type": kind, "stage": 1, **fields})


def end(reason: str = "") -> Frame:
    return frame(END, {"state": "FAILURE", "exit_code": 1, "reason": reason})


def feed(log: AttemptLog, *frames: Frame) -> list[Record]:
    return [record for one in frames for record in log.feed(one)]


def assert_hidden(found: list[Record], *secrets: str) -> None:
    for secret in secrets or (SECRET,):
        assert secret not in b"\n".join(map(encode, found)).decode()


@pytest.mark.parametrize("place", range(len(SECRET.encode()) + 1))
@pytest.mark.parametrize("kind", [TEXT, RAW])
def test_a_secret_in_two_writes(kind: int, place: int) -> None:
    """At each byte that can divide it, the line is whole again before it is looked at, and no preview shows it."""
    log = new_log()
    raw = SECRET.encode()
    found = feed(log, frame(kind, b"it is " + raw[:place], STDERR))
    previews = log.previews(1)
    found += feed(log, frame(kind, raw[place:] + b" now\n", STDERR), end())
    assert lines(found) == [("stderr", "it is *** now")]
    assert "".join(preview.line for preview in previews) in ("it is ", f"it is {SECRET[0]}", "it is ***")


@given(st.text("ab\\'\"é😀\xff", min_size=6, max_size=12), st.data())
def test_a_preview_shows_no_half_secret(secret: str, data: st.DataObject) -> None:
    """Not even where a character is divided, and what is there of it looks like no text."""
    raw = secret.encode()
    place = data.draw(st.integers(0, len(raw)))
    log = new_log(secret)
    log.feed(text(b"|" + raw[:place]))
    (preview,) = log.previews(1)
    assert preview.line in ("|", "|" + secret[0], "|***")


@given(st.lists(st.sampled_from([SECRET, "s3cr3t", "word\n", "\r", " ", "x"]), max_size=12).map("".join),
       st.lists(st.integers(0, 100), max_size=6))  # fmt: skip
def test_previews_and_lines_never_show_it(output: str, cuts: list[int]) -> None:
    """However output is divided into writes, with returns and all."""
    log = new_log()
    raw = output.encode()
    places = sorted({min(cut, len(raw)) for cut in cuts})
    found: list[Record] = []
    for a, b in zip([0, *places], [*places, len(raw)], strict=True):
        found += [*feed(log, text(raw[a:b])), *log.previews(1)]
    assert_hidden([*found, *feed(log, end())])


@pytest.mark.parametrize("before", [0, 1, 5, len(SECRET.encode()) - 1, len(SECRET.encode())])
def test_a_secret_over_two_pieces_of_an_overlong_line(before: int) -> None:
    """The end of a piece waits for the next one; how many pieces there are, and their numbers, stay as they were."""
    log = new_log()
    output = b"." * (WHOLE_LINE - before) + SECRET.encode() + b" and on"
    found = feed(log, text(output), text(b"\n"), end())
    first, second, last = found
    assert isinstance(first, Line)
    assert isinstance(second, Line)
    assert (first.n, first.more, second.n, second.more, last.n) == (1, True, 2, False, 3)
    assert first.line + second.line == "." * (WHOLE_LINE - before) + "*** and on"
    assert log.attempt.lines == 1


def test_the_preview_of_an_overlong_line_goes_on_where_its_piece_ended() -> None:
    """What waits of the last piece is in the preview as well, and redacted with it."""
    log = new_log()
    log.feed(text(b"." * (WHOLE_LINE - 4) + SECRET.encode()))
    (preview,) = log.previews(1)
    assert preview.line.lstrip(".") == "***"
    assert preview.n == 2


def test_log_records() -> None:
    """Messages of several lines, tracebacks and the names of loggers."""
    log = new_log()
    message = f"failed with {SECRET}\nTraceback …\nValueError: {SECRET!r}"
    (first, *_, last) = found = feed(log, frame(LOG, f"ERROR\0log.{SECRET}\0{message}".encode(), LOG_STREAM))
    assert_hidden(found)
    assert isinstance(first, Line)
    assert isinstance(last, Line)
    assert (first.logger, first.level, first.line) == ("log.***", "ERROR", "failed with ***")
    assert last.line == "ValueError: '***'"


def test_stages_and_traces() -> None:
    """Names, messages, errors, tracebacks and results; keys and values of data, however deep; numbers, too."""
    log = new_log(SECRET, "12345678")
    found = feed(
        log,
        event("stage_start", name=f"Log in with {SECRET}", pending=12345678),
        event("stage_progress", name=SECRET, done=12345678, total=2, message=f"at {SECRET}"),
        event("stage_complete", name="n", elapsed=1.5, processed=12345678, result={"a": [SECRET, 12345678, 1.5, None]}),
        event("stage_error", name="n", elapsed=1.5, error=f"E: {SECRET}", traceback=f"1\n{SECRET}\n"),
        event("trace", event=SECRET, data={SECRET: {"deep": [[SECRET]]}, "12345678": True, "x": False}),
    )
    assert_hidden(found)
    start, progress, complete, error, trace = found
    assert (start.text, progress.text) == (
        "Stage 1: Log in with *** (12345678 pending)",
        "Stage 1: ***: 12345678/2 at ***",
    )
    assert isinstance(complete, StageComplete)
    assert (complete.result, complete.processed) == ({"a": ["***", "***", 1.5, None]}, 12345678)
    assert isinstance(error, StageError)
    assert (error.error, error.traceback) == ("E: ***", "1\n***\n")
    assert isinstance(trace, Trace)
    assert (trace.event, trace.data) == ("***", {"***": {"deep": [["***"]]}, "*** 2": True, "x": False})


def test_many_keys_that_are_secret() -> None:
    """Each keeps its value, and a thousand of them take no longer than a thousand."""
    data = {f"{SECRET}{number}": number for number in range(20_000)}
    (trace,) = feed(new_log(patterns=(r"\d+$",)), event("trace", event="e", data=data))
    assert isinstance(trace, Trace)
    assert list(trace.data)[:2] == ["******", "****** 2"]
    assert len(trace.data) == 20_000


@pytest.mark.parametrize("payload", ["no JSON: {}", '{{"type":"nonsense","stage":1,"name":"{}"}}', "[" * 5000 + "{}"])
def test_unreadable_events(payload: str) -> None:
    """What is shown of an event that is none."""
    found = feed(new_log(), frame(EVENT, payload.format(SECRET).encode()))
    assert_hidden(found)
    assert "***" in found[0].text


@pytest.mark.parametrize("kept", range(4, len(SECRET)))
def test_texts_of_large_events_are_cut(kept: int) -> None:
    """A task's process cuts long texts; a secret that was cut with them is not shown by half."""
    cut = ("." * 10_000 + SECRET)[kept : 10_000 + kept]
    (trace,) = feed(new_log(), event("trace", event="e", data=cut))
    assert trace.text.endswith('.***"')


def test_the_end() -> None:
    """Its reason is an exception's text; 500 characters of it are kept, and no half secret with them."""
    for size in (0, 480, 490, 494, 499, 500):
        log = new_log()
        *_, last = feed(log, text(b"line\n"), end("." * size + SECRET))
        assert isinstance(last, End)
        assert last.reason == ("." * size + "***")[:500]
        assert log.attempt.reason == last.reason


def test_an_exception_that_was_cut_in_a_secret() -> None:
    """What the task's process has cut at its own limit."""
    *_, last = feed(new_log(), text(b"line\n"), end(("." * 499 + SECRET)[:504]))
    assert isinstance(last, End)
    assert last.reason == "." * 499 + "*"


def test_what_is_known_of_the_attempt() -> None:
    """Text of users goes to catalog and index redacted; ids and times, by which all is found, do not change."""
    log = new_log("a-task", name="proj.a-task", args="('a-task',)", worker="w@a-task", queue="a-task", root_id="a-task")
    attempt = log.attempt
    assert (attempt.name, attempt.args, attempt.worker, attempt.queue) == ("proj.***", "('***',)", "w@***", "***")
    assert (attempt.task_id, attempt.root_id, attempt.started) == ("a-task", "a-task", AT)


def test_what_is_masked_while_it_runs() -> None:
    """From the frame on, in all that comes and in what is known of the attempt; a line that is begun is one to come."""
    log = AttemptLog(Attempt(attempt="00aa11bb", task_id="t", args="(hunter22,)"))
    found = feed(
        log,
        text(b"before hunter22\nbegun hunter"),
        text(b"hunter22", STDERR),
        frame(MASK, b"hunter22"),
        frame(MASK, b"\xff\xfesecond"),
        text(b"22\n"),
        text(b"\xff\xfesecond\n"),
        event("trace", event="hunter22"),
        end("hunter22"),
    )
    assert lines(found) == [
        ("stdout", "before hunter22"),
        ("stdout", "begun ***"),
        ("stdout", "***"),
        ("stderr", "***"),
    ]
    assert_hidden(found[1:], "hunter22")
    assert [record.n for record in found] == [1, 2, 3, 4, 5, 6]
    assert log.attempt.args == "(***,)"


def test_fields_of_logged_lines_have_no_secrets() -> None:
    """Neither in keys nor in values, however deep, nor in numbers; what is no secret stays what it is."""
    fields = {"user": SECRET, f"of {SECRET}": [{"deep": SECRET}, 1.5], "pin": 271828271828, "count": 3}
    payload = b"INFO\0logger\x1e" + json.dumps(fields).encode() + b"\0paid"
    found = feed(new_log(SECRET, "271828271828"), Frame(LOG, LOG_STREAM, 1, 0, 1, 0, 0, payload))
    (line,) = found
    assert isinstance(line, Line)
    assert line.logger == "logger"
    assert line.fields == {"user": "***", "of ***": [{"deep": "***"}, 1.5], "pin": "***", "count": 3}
    assert_hidden(found)


def test_masks_are_of_one_attempt() -> None:
    """What one attempt masks, another one of the same worker shows, also where both have the same patterns."""
    redactions = Redactions(Redactor(["common-secret"]))
    one, two = (redactions.of([b"of-the-process"], [r"pin=\d+"]) for _ in range(2))
    one.hide(b"only-one")
    said = "common-secret of-the-process pin=1 only-one"
    assert (one.text(said), two.text(said)) == ("*** *** *** ***", "*** *** *** only-one")
    assert redactions.of([], []).text(said) == "*** of-the-process pin=1 only-one"


def test_a_bad_pattern_hides_all_that_the_task_prints() -> None:
    """The log still says how many lines there were, when, and how it ended; the catalog, which task it was."""
    redaction = Redactions(Redactor(["hunter22"])).of([], None)
    log = AttemptLog(Attempt(attempt="00aa11bb", task_id="t", name="proj.hunter22", args="(1,)"), redaction)
    found = feed(log, text(b"one\n\nthree"), event("trace", event="e", data={"k": 5}), end("why"))
    previews = log.previews(1)
    assert lines(found) == [("stdout", "***"), ("stdout", ""), ("stdout", "***")]
    assert previews == []
    assert (log.attempt.name, log.attempt.args, log.attempt.reason) == ("proj.***", "***", "***")
    assert (log.attempt.lines, log.attempt.state) == (3, "FAILURE")
    assert found[2].text == "*** " + json.dumps({"***": "***"}, separators=(",", ":"))


def test_an_unfinished_line_of_a_task_with_a_bad_pattern() -> None:
    log = AttemptLog(Attempt(attempt="00aa11bb", task_id="t"), Redactions(Redactor()).of([], None))
    log.feed(text(b"prompt: "))
    assert [preview.line for preview in log.previews(1)] == ["***"]


OUTPUT = st.lists(st.sampled_from([b"a", b"\n", b"\r", b"secret", SECRET.encode(), b"\xff"]), max_size=10).map(b"".join)
FRAMES = st.lists(
    st.one_of(
        st.builds(text, OUTPUT, st.sampled_from([STDOUT, STDERR]), st.integers(0, 1)),
        st.builds(frame, st.just(MASK), st.sampled_from([b"secret", b"aaaaaa", b"\xff"])),
        st.builds(event, st.sampled_from(["stage_start", "trace", "nonsense"]), name=st.just(SECRET)),
        st.builds(frame, st.just(EVENT), OUTPUT),
    ),
    max_size=20,
)


@given(FRAMES)
def test_only_text_changes(frames: list[Frame]) -> None:
    """Records, numbers, times, counts and stages are those of a log in which nothing is secret."""

    def shape(record: Record) -> Any:
        skipped = ("line", "name", "event", "data", "reason")
        return {name: value for name, value in msgspec.to_builtins(record).items() if name not in skipped}

    plain = AttemptLog(Attempt(attempt="00aa11bb", task_id="t"))
    secret = new_log(task_id="t")
    without = feed(plain, *(one for one in frames if one.kind != MASK), end())
    found = feed(secret, *frames, end())
    assert list(map(shape, found)) == list(map(shape, without))
    assert (secret.attempt.lines, secret.attempt.bytes) == (plain.attempt.lines, plain.attempt.bytes)
    assert_hidden([record for record in found if not isinstance(record, Partial)])


@given(FRAMES)
def test_the_same_frames_give_the_same_records(frames: list[Frame]) -> None:
    """A shipper that starts anew hides what the one before it hid."""
    assert feed(new_log(), *frames, end()) == feed(new_log(), *frames, end())
