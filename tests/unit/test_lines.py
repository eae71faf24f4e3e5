"""Lines out of written bytes, whatever the writes were."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celery_livelog.lines import LineSplitter

#: What output is made of: text, line ends, bars, characters of 1 to 4 bytes, and bytes that are no UTF-8.
PARTS = (
    b"a",
    b"some text",
    b"\n",
    b"\r",
    b"\r\n",
    b"\x1b[31m",
    "é".encode(),
    "€".encode(),
    "🚀".encode(),
    b"\xf0",
    b"\xff",
)
OUTPUT = st.lists(st.sampled_from(PARTS), max_size=60).map(b"".join)


def split(*writes: bytes, limit: int = 1 << 20) -> list[tuple[str, bool]]:
    """Each line of `writes` with its "more follows", the unfinished one at the end too."""
    splitter = LineSplitter(limit)
    lines = [line for data in writes for line in splitter.feed(data)]
    return lines + splitter.close()


def texts(*writes: bytes) -> list[str]:
    return [line for line, _ in split(*writes)]


@st.composite
def chunked(draw: st.DrawFn) -> list[bytes]:
    """Some output, cut into writes at any places, also into empty ones."""
    output = draw(OUTPUT)
    places = sorted(draw(st.lists(st.integers(0, len(output)), max_size=12)))
    return [output[start:end] for start, end in pairwise([0, *places, len(output)])]


@given(chunked(), st.integers(4, 40))
@example([b"ab\r", b"\ncd"], 4)
def test_the_same_bytes_give_the_same_lines(writes: list[bytes], limit: int) -> None:
    """How output is divided into writes makes no difference, not even to where overlong lines are cut."""
    assert split(*writes, limit=limit) == split(b"".join(writes), limit=limit)


@given(chunked())
def test_single_bytes_give_the_same_lines(writes: list[bytes]) -> None:
    """Bytes that come one by one are the hardest chunking."""
    output = b"".join(writes)
    assert split(*(bytes([byte]) for byte in output)) == split(output)


@given(OUTPUT)
def test_a_line_is_what_a_terminal_would_show(output: bytes) -> None:
    """Of a line that was drawn over, the last drawing stays; nothing is raised and no line is lost."""
    *whole, rest = output.split(b"\n")
    expected = [line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "backslashreplace") for line in whole]
    lines = texts(output)
    assert lines[: len(whole)] == expected
    assert len(lines) - len(whole) == bool(rest.strip(b"\r"))


@given(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1), st.integers(4, 30))
def test_pieces_of_an_overlong_line_make_up_the_line(line: str, limit: int) -> None:
    """No piece is larger than the limit, no character is cut, all but the last say that more follows."""
    pieces = split(line.encode() + b"\n", limit=limit)
    assert "".join(piece for piece, _ in pieces) == line
    assert [more for _, more in pieces] == [True] * (len(pieces) - 1) + [False]
    assert all(len(piece.encode()) <= limit for piece, _ in pieces)


@pytest.mark.parametrize(
    ("writes", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"windows\r\n", b"unix\n"], ["windows", "unix"]),
        ([b"windows\r", b"\n"], ["windows"]),
        ([b"\n\n"], ["", ""]),
        ([b"no newline"], ["no newline"]),
        ([b""], []),
        ([b"\r"], []),
        (["🚀".encode()[:2], "🚀".encode()[2:], b"\n"], ["🚀"]),
        ([b"caf\xe9 \xff\n"], ["caf\\xe9 \\xff"]),
        ([b"\xf0\x9f\n"], ["\\xf0\\x9f"]),
        ([b" 10%\r 50%\r100%\n", b"done\n"], ["100%", "done"]),
        ([b"\r 10%", b"\r 50%", b"\r100%", b"\n"], ["100%"]),
        ([b"100%\r"], ["100%"]),
        ([b"a\0b\x1b[0m\n"], ["a\0b\x1b[0m"]),
    ],
)
def test_lines(writes: list[bytes], lines: list[str]) -> None:
    """Line ends, bars, split characters and bytes that are no text."""
    assert texts(*writes) == lines


def test_a_line_at_the_limit_is_whole() -> None:
    """A line of exactly the limit is one line; a byte more makes two pieces."""
    assert split(b"x" * 8 + b"\n", limit=8) == [("x" * 8, False)]
    assert split(b"x" * 9 + b"\n", limit=8) == [("x" * 8, True), ("x", False)]


def test_bars_of_any_length_stay_one_line() -> None:
    """What a bar has drawn over does not count against the limit."""
    assert split(*(b"\r%3d%%" % percent for percent in range(101)), limit=8) == [("100%", False)]


def test_preview_is_the_unfinished_line() -> None:
    """A live view sees the line grow, and learns when there is nothing new to see."""
    splitter = LineSplitter()
    splitter.feed(b"done\nLoading")
    assert splitter.changed
    assert splitter.preview() == "Loading"
    assert not splitter.changed
    splitter.feed(b"...\rAgain")
    assert splitter.preview() == "Again"
    splitter.feed(b"\n")
    assert not splitter.changed
    assert splitter.preview() == ""
