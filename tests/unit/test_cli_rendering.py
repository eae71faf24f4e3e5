"""What a log looks like in a pipe, on a terminal and as JSON: histories of records, and the text that they make."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.cli.rendering import JsonLines, Pipe, Rendering, Screen
from celery_livelog.cli.terminal import ERASE
from celery_livelog.cli.times import local_time
from celery_livelog.records import End, Gap, Line, Partial, Record, StageStart

AT = "2026-01-02T03:04:05.000006+00:00"

_GAP = Gap(n=9, timestamp=AT, skipped=3, first=7, last=9, reason="trim")


def line(text: str, stream: str = "stdout", **fields: Any) -> Line:
    return Line(n=1, timestamp=AT, stream=stream, line=text, **fields)


def partial(text: str, stream: str = "stdout", redrawn: bool = False) -> Partial:
    return Partial(n=1, timestamp=AT, stream=stream, line=text, redrawn=redrawn)


def rendered(rendering: Rendering, history: Sequence[Record], number: int = 1) -> str:
    return "".join(rendering.feed(number, record) for record in history)


def screen(columns: int = 80, **options: Any) -> Screen:
    return Screen(lambda: columns, **options)


_IN_A_PIPE: dict[str, tuple[list[Record], str]] = {
    "lines of all streams": ([line("a"), line("b", "stderr"), line("", "log", level="INFO")], "a\nb\n\n"),
    "nothing is changed": ([line("\x1b[2J\t\u202e\x07 é")], "\x1b[2J\t\u202e\x07 é\n"),
    "a gap": ([line("a"), _GAP, line("b")], "a\n[3 messages skipped]\nb\n"),
    "pieces of one line": ([line("aa", more=True), line("bb", more=True, piece=1), line("cc", piece=2)], "aabbcc\n"),
    "another stream between pieces": ([line("aa", more=True), line("err", "stderr"), line("bb")], "aa\nerr\nbb\n"),
    "a gap between pieces": ([line("aa", more=True), _GAP, line("bb")], "aa\n[3 messages skipped]\nbb\n"),
    "an unfinished line grows": ([partial("one "), partial("one two"), line("one two three")], "one two three\n"),
    "and stays as it was": ([partial("one"), partial("one"), line("one")], "one\n"),
    "fields of a logged line": (
        [line("paid", "log", level="INFO", fields={"amount": 5, "to": "u 1", "by": "card"})],
        'paid  amount=5 to="u 1" by=card\n',
    ),
    "nothing is unfinished": ([partial(""), line("a")], "a\n"),
    "a bar that is drawn again": ([partial(" 1%", redrawn=True), partial(" 2%", redrawn=True), line("100%")], "100%\n"),
    "a line that becomes a bar": ([partial("work"), partial("1%", redrawn=True), line("100%")], "work\n100%\n"),
    "two unfinished lines": (
        [partial("out"), partial("err", "stderr"), line("error", "stderr"), line("output")],
        "out\nerror\noutput\n",
    ),
    "an unfinished rest of a long line": ([line("aa", more=True), partial("b"), line("bb")], "aabb\n"),
    "the next line is unfinished, too": ([partial("a"), line("ab"), partial("c"), line("cd")], "ab\ncd\n"),
}


@pytest.mark.parametrize(("history", "text"), _IN_A_PIPE.values(), ids=_IN_A_PIPE.keys())
def test_in_a_pipe(history: list[Record], text: str) -> None:
    """A pipe gets the text of the lines and nothing else."""
    assert rendered(Pipe(), history) == text


def test_an_unfinished_line_is_in_the_pipe_at_once() -> None:
    """Whoever reads the pipe sees a prompt while it waits."""
    pipe = Pipe()
    assert pipe.feed(1, partial("Compiling ")) == "Compiling "
    assert pipe.feed(1, partial("Compiling foo")) == "foo"
    assert pipe.feed(1, line("Compiling foo: ok")) == ": ok\n"


_WORDS = st.text("ab \t", min_size=1, max_size=5)


@given(st.lists(st.lists(_WORDS, min_size=1, max_size=4), max_size=5), st.data())
def test_unfinished_lines_never_change_what_a_pipe_gets(lines: list[list[str]], data: st.DataObject) -> None:
    """However often a line was seen before its end, the bytes are those of the line."""
    history: list[Record] = []
    for words in lines:
        for end in range(1, len(words)):
            if data.draw(st.booleans()):
                history.append(partial("".join(words[:end])))
        history.append(line("".join(words)))
    assert rendered(Pipe(), history) == "".join("".join(words) + "\n" for words in lines)


def test_times_in_a_pipe() -> None:
    """Every line has its time, in the reader's zone; an unfinished line has none yet and waits."""
    history: list[Record] = [partial("a"), line("a"), line("bb", more=True), line("cc"), _GAP]
    at = local_time(AT)
    assert rendered(Pipe(timestamps=True), history) == f"{at} a\n{at} bbcc\n{at} [3 messages skipped]\n"
    assert re.fullmatch(r"2026-01-0[123]T\d\d:\d\d:05\.000006[+-]\d\d:\d\d", at)


_ON_A_SCREEN: dict[str, tuple[list[Record], str]] = {
    "plain text": ([line("a"), line("b", "log", level="INFO")], "a\nb\n"),
    "stderr is red": ([line("a", "stderr")], "\x1b[31ma\x1b[0m\n"),
    "levels have colours": (
        [line("w", "log", level="WARNING"), line("e", "log", level="error"), line("d", "log", level="DEBUG")],
        "\x1b[33mw\x1b[0m\n\x1b[91me\x1b[0m\n\x1b[2md\x1b[0m\n",
    ),
    "what the task did not print is dim": (
        [line("a", "internal"), StageStart(n=1, timestamp=AT, stage=1, name="x")],
        "\x1b[2ma\x1b[0m\n\x1b[2mStage 1: x\x1b[0m\n",
    ),
    "hostile text is harmless": ([line("a\x1b[2J\x1b]52;c;AAAA\x07b\r\u202ec")], "ab<U+202E>c\n"),
    "a colour ends with its line": ([line("\x1b[35ma"), line("b")], "\x1b[35ma\x1b[0m\nb\n"),
    "pieces of one line": ([line("aa", more=True), line("bb")], "aabb\n"),
    "an unfinished line is drawn again": (
        [partial("1%"), partial("2%"), line("100%")],
        f"1%{ERASE}2%{ERASE}100%\n",
    ),
    "an unfinished line that is taken back": ([partial("1%"), partial(""), line("a")], f"1%{ERASE}a\n"),
    "it stays below the lines of other streams": (
        [partial("1%"), line("e", "log", level="INFO"), partial("2%"), line("done")],
        f"1%{ERASE}e\n1%{ERASE}2%{ERASE}done\n",
    ),
    "of two unfinished lines the newer shows": (
        [partial("out"), partial("err", "stderr"), line("error", "stderr")],
        f"out{ERASE}\x1b[31merr\x1b[0m{ERASE}\x1b[31merror\x1b[0m\nout",
    ),
    "it is gone when records were skipped": (
        [partial("a"), _GAP, line("b")],
        f"a{ERASE}\x1b[2m[3 messages skipped]\x1b[0m\nb\n",
    ),
    "pieces cannot be erased": ([line("aa", more=True), partial("b"), line("bb")], "aabb\n"),
}


@pytest.mark.parametrize(("history", "text"), _ON_A_SCREEN.values(), ids=_ON_A_SCREEN.keys())
def test_on_a_screen(history: list[Record], text: str) -> None:
    """A terminal gets harmless text in colour; the unfinished line is the last row."""
    assert rendered(screen(), history) == text


def test_an_unfinished_line_fits_on_its_row() -> None:
    """A row that has wrapped could not be erased."""
    assert rendered(screen(columns=10), [partial("x" * 50)]) == "x" * 9


def test_a_screen_without_colour() -> None:
    history = [line("\x1b[31ma", "stderr"), line("b", "internal")]
    assert rendered(screen(colour=False), history) == "a\nb\n"


def test_interrupting_leaves_a_clean_row() -> None:
    """A note, or the shell's prompt, does not stand behind an unfinished line."""
    on_screen = screen()
    rendered(on_screen, [partial("1%")])
    assert on_screen.interrupt() == ERASE
    assert on_screen.interrupt() == ""
    rendered(on_screen, [line("aa", more=True)])
    assert on_screen.interrupt() == "\n"


def test_json() -> None:
    """Records as they are, with the task and the number of the attempt."""
    history: list[Record] = [partial("a"), line("a", stage=2), End(n=2, timestamp=AT, state="SUCCESS", exit_code=0)]
    first, end = rendered(JsonLines("id"), history, number=3).splitlines()
    of_task = {"task_id": "id", "attempt": 3, "timestamp": AT}
    assert json.loads(first) == {"type": "log_line", "n": 1, "stream": "stdout", "line": "a", "stage": 2, **of_task}
    assert json.loads(end) == {"type": "log_line_end", "n": 2, "state": "SUCCESS", "exit_code": 0, **of_task}


def test_json_on_a_terminal_is_harmless_and_the_same() -> None:
    hostile = "\x1b[2J \x9b2J \x7f \u202e é"
    text = rendered(JsonLines("id", on_terminal=True), [line(hostile)])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert json.loads(text)["line"] == hostile
