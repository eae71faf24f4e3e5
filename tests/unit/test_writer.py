"""An attempt's writer: whatever is written to it, in whatever pieces, by whichever thread, is in the journal."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.frames import MAX_PAYLOAD, STDERR, STDOUT, TEXT
from celery_livelog.records import End, Line
from celery_livelog.writer import AttemptWriter
from tests.unit import children
from tests.unit.journals import ENDING, begin, frames, lines, open_journal, records


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AttemptWriter]:
    """A writer to a journal in `tmp_path`."""
    written = open_journal(tmp_path)
    yield begin(written)
    written.close()


def texts(directory: Path) -> list[bytes]:
    """The payloads of the text frames."""
    return [frame.payload for frame in frames(directory) if frame.kind == TEXT]


#: Pieces of lines. What was printed as "a" and what as "\n" must not matter.
PIECE = st.text("ab\n€\ud800", max_size=5)
OPERATION = st.tuples(st.integers(0, 1), st.sampled_from([STDOUT, STDERR]), st.one_of(PIECE, st.binary(), st.none()))


@given(st.lists(OPERATION, max_size=20))
def test_every_threads_text_is_whole_and_in_order(operations: list[tuple[int, int, str | bytes | None]]) -> None:
    """Texts, bytes and flushes of two threads to two streams: for each, what was written is what is there."""
    expected: dict[tuple[int, int], bytes] = {}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        written = open_journal(Path(name))
        writer = begin(written)
        threads = [first.submit(threading.get_ident).result(), second.submit(threading.get_ident).result()]
        for thread, stream, what in operations:
            write: Callable[..., None] = (
                writer.flush if what is None else writer.write if isinstance(what, str) else writer.write_bytes
            )
            (first, second)[thread].submit(write, stream, *() if what is None else (what,)).result()
            data = what.encode("utf-8", "backslashreplace") if isinstance(what, str) else what or b""
            expected[threads[thread], stream] = expected.get((threads[thread], stream), b"") + data
        writer.end(ENDING)
        written.close()
        found: dict[tuple[int, int], bytes] = {}
        for frame in frames(Path(name)):
            if frame.kind == TEXT:
                key = (next(thread for thread in threads if thread & 0xFFFFFFFF == frame.channel), frame.stream)
                found[key] = found.get(key, b"") + frame.payload
    assert {key: data for key, data in found.items() if data} == {key: data for key, data in expected.items() if data}


def test_a_line_is_one_frame(writer: AttemptWriter, tmp_path: Path) -> None:
    """`print` writes its text and its newline apart; the line goes at once, and a half line waits for its rest."""
    for piece in ("one", "\n", "two ", "halves", "\n", "three\nfour\nfi"):
        writer.write(STDOUT, piece)
    assert texts(tmp_path) == [b"one\n", b"two halves\n", b"three\nfour\n"]
    writer.write(STDOUT, "ve\n")
    assert texts(tmp_path)[-1] == b"five\n"


def test_a_flush_lets_a_half_line_go(writer: AttemptWriter, tmp_path: Path) -> None:
    """A prompt or a progress bar is seen when it is flushed, that of the other stream is not touched."""
    writer.write(STDOUT, "Password: ")
    writer.write(STDERR, "50%")
    writer.flush(STDOUT)
    writer.flush(STDOUT)
    assert texts(tmp_path) == [b"Password: "]


def test_a_long_half_line_does_not_wait(writer: AttemptWriter, tmp_path: Path) -> None:
    """What is held back in memory is bounded."""
    for _ in range(100):
        writer.write(STDOUT, "x" * 1000)
    assert sum(map(len, texts(tmp_path))) > 90_000


def test_threads_do_not_mix_their_half_lines(writer: AttemptWriter, tmp_path: Path) -> None:
    """A line that a thread prints in pieces stays whole while another prints; the rest of both comes with the end."""
    writer.write(STDOUT, "main ")

    def write() -> None:
        for piece in ("thread ", "line\n", "rest"):
            writer.write(STDOUT, piece)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    writer.write(STDOUT, "line\nrest of main")
    writer.end(ENDING)
    found = lines(records(tmp_path))
    assert found[:2] == [("stdout", "thread line"), ("stdout", "main line")]
    assert sorted(line for _, line in found[2:]) == ["rest", "rest of main"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("caf\udce9", "caf\\xe9"),  # a file name that was no UTF-8 when Python read it
        ("\ud83d alone", "\\ud83d alone"),
        ("\udce9 and \ud83d", "\\udce9 and \\ud83d"),
    ],
)
def test_surrogates_are_shown(writer: AttemptWriter, tmp_path: Path, text: str, line: str) -> None:
    """What has no encoding is made visible, never raised; the rest of the text is as it was."""
    writer.write(STDOUT, f"€ {text}\n")
    writer.log("INFO", "logger", text)
    writer.end(ENDING)
    assert lines(records(tmp_path)) == [("stdout", f"€ {line}"), ("log", line)]


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 5_000_000])
def test_a_print_of_megabytes(writer: AttemptWriter, tmp_path: Path, size: int) -> None:
    """However long a print, its lines are whole; no frame is larger than a reader takes."""
    line = "€" * 99
    text = (line + "\n") * (size // 100) + "x" * (size % 100)
    writer.write(STDOUT, text)
    writer.write_bytes(STDERR, text.encode())
    writer.end(ENDING)
    found = lines(records(tmp_path))
    for stream in ("stdout", "stderr"):
        assert "\n".join(text for by, text in found if by == stream) == text.rstrip("\n")
    assert max(len(frame.payload) for frame in frames(tmp_path)) < MAX_PAYLOAD


def test_bytes_and_text_keep_their_order(writer: AttemptWriter, tmp_path: Path) -> None:
    """What was written as text before bytes is before them, also when it is no whole line."""
    writer.write(STDOUT, "text ")
    writer.write_bytes(STDOUT, b"bytes \xff ")
    writer.write(STDOUT, "text\n")
    assert b"".join(texts(tmp_path)) == b"text bytes \xff text\n"


def test_a_log_record_is_lines_with_level_and_logger(writer: AttemptWriter, tmp_path: Path) -> None:
    """A message of several lines, such as a traceback, is several lines of the same level and logger."""
    writer.log("ERROR", "some.library", "it failed\nTraceback\n  here")
    writer.log("INFO", "", "")
    writer.end(ENDING)
    found = [record for record in records(tmp_path) if isinstance(record, Line)]
    assert [(line.stream, line.level, line.logger, line.line) for line in found] == [
        ("log", "ERROR", "some.library", "it failed"),
        ("log", "ERROR", "some.library", "Traceback"),
        ("log", "ERROR", "some.library", "  here"),
        ("log", "INFO", "", ""),
    ]


def test_a_message_of_megabytes(writer: AttemptWriter, tmp_path: Path) -> None:
    """A logged message too long for a frame continues on a line of its own; none of it is lost."""
    message = "x" * 5_000_000
    writer.log("INFO", "logger", message)
    writer.end(ENDING)
    assert "".join(line for _, line in lines(records(tmp_path))) == message


def test_a_record_is_taken_once(writer: AttemptWriter) -> None:
    """A log record that passes several handlers is new to the first only, also when another came in the middle of that;
    the same text again is another record."""
    first, second = (logging.makeLogRecord({"msg": "same"}) for _ in range(2))
    assert [writer.takes(record) for record in (first, first, second, second, first)] == [
        True, False, True, False, False,
    ]  # fmt: skip


def test_records_are_forgotten(writer: AttemptWriter) -> None:
    """What is remembered of records does not grow, and a new one at an old one's place in memory is new."""
    assert all(writer.takes(logging.makeLogRecord({"msg": "one of many"})) for _ in range(1000))
    assert len(writer._taken) < 100


def test_the_end_closes_the_attempt(writer: AttemptWriter, tmp_path: Path) -> None:
    """The half line that was left comes before the end, and what is written later is not of this attempt."""
    writer.write(STDOUT, "no newline")
    writer.end(json.dumps({"state": "FAILURE", "exit_code": 1, "reason": "ValueError: no"}).encode())
    writer.write(STDOUT, "too late\n")
    line, end = records(tmp_path)
    assert lines([line]) == [("stdout", "no newline")]
    assert isinstance(end, End)
    assert (end.n, end.state, end.exit_code, end.reason) == (2, "FAILURE", 1, "ValueError: no")
    assert writer.ended


def test_a_forked_child_forgets_half_lines(writer: AttemptWriter, tmp_path: Path) -> None:
    """What its parent has begun to print is not printed once more by the child."""
    writer.write(STDOUT, "the parent's")
    writer.forget_held()
    writer.write(STDOUT, "the child's\n")
    assert texts(tmp_path) == [b"the child's\n"]


def test_a_signal_handler_may_print_at_any_moment(tmp_path: Path) -> None:
    """A handler that prints wherever the main thread is, in the writer too: no character is lost, doubled or raised."""
    counts = children.run(
        """
        import signal, sys
        from pathlib import Path
        from tests.unit.journals import ENDING, begin, open_journal

        journal = open_journal(Path(sys.argv[1]))
        writer = begin(journal)
        ticks = 0

        def tick(*_):
            global ticks
            ticks += 1
            writer.write(1, "<")
            writer.write(1, ">" if ticks % 2 else ">\\n")
            if ticks < 2000:
                signal.setitimer(signal.ITIMER_REAL, 0.00005)

        signal.signal(signal.SIGALRM, tick)
        signal.setitimer(signal.ITIMER_REAL, 0.00005)
        written = 0
        while ticks < 2000:
            for piece in ("a", "b\\n", "cd", "", "e\\nf"):
                writer.write(1, piece)
            writer.flush(1)
            written += 1
        writer.end(ENDING)
        print(ticks, written)
        """,
        tmp_path,
    )
    ticks, written = map(int, counts.split())
    data = b"".join(texts(tmp_path))
    assert {letter: data.count(letter) for letter in (b"<", b">", b"a", b"b", b"c", b"d", b"e", b"f")} == {
        **dict.fromkeys((b"<", b">"), ticks),
        **dict.fromkeys((b"a", b"b", b"c", b"d", b"e", b"f"), written),
    }
    assert re.fullmatch(rb"(a|b|cd|e|f|<|>|\n)*", data)
