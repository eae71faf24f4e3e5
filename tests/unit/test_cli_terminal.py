"""What of a task's text reaches a terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.cli.terminal import RESET, fit, harmless

#: What may stand in harmless text: printable characters, tabs, and the sequences for colours and styles.
_HARMLESS = re.compile(r"(?:\x1b\[[0-9;:]*m|[^\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069])*")

_HOSTILE = {
    "clear the screen": ("a\x1b[2Jb", "ab"),
    "move the cursor": ("a\x1b[10;20Hb\x1b[Ac", "abc"),
    "carriage return": ("real\rfake", "realfake"),
    "backspace": ("secret\b\b\b", "secret"),
    "bell": ("ding\x07", "ding"),
    "null": ("a\x00b", "ab"),
    "delete": ("a\x7fb", "ab"),
    "a line end": ("a\nb", "ab"),
    "set the clipboard (OSC 52), ended by a bell": ("a\x1b]52;c;cm0gLXJm\x07b", "ab"),
    "set the clipboard (OSC 52), ended by ST": ("a\x1b]52;c;cm0gLXJm\x1b\\b", "ab"),
    "set the title (OSC 0)": ("\x1b]0;owned\x07text", "text"),
    "hyperlink (OSC 8)": ("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "click"),
    "OSC that nobody ends": ("a\x1b]0;title", "a0;title"),
    "device control (DCS)": ("a\x1bP+q544e\x1b\\b", "ab"),
    "application command (APC)": ("a\x1b_Gi=1;AAAA\x1b\\b", "ab"),
    "privacy message and start of string": ("a\x1b^x\x1b\\b\x1bXy\x1b\\c", "abc"),
    "ask for an answer typed as input": ("\x1b[6n\x1b[c\x1b[>q\x1bZtext", "text"),
    "reset the terminal": ("\x1bctext", "text"),
    "other character sets": ("\x1b(0text\x1b)B", "text"),
    "alternate screen and hidden cursor": ("\x1b[?1049h\x1b[?25ltext", "text"),
    "keyboard options end in m, too": ("\x1b[>4;2mtext\x1b[?4m", "text"),
    "CSI as one C1 character": ("a\x9b2Jb", "ab"),
    "OSC as one C1 character": ("a\x9d52;c;AAAA\x9cb", "ab"),
    "other C1 characters": ("a\x84\x85\x8d\x90b", "ab"),
    "a sequence inside another": ("a\x1b\x1b[0c[2Jb", "a[2Jb"),
    "a style broken by a control": ("a\x1b[3\x001mb", "a31mb"),
    "an escape at the end": ("a\x1b", "a"),
    "a sequence cut short": ("a\x1b[12", "a12"),
    "right to left": ("exe.\u202egpj", "exe.<U+202E>gpj"),
    "isolates and marks": ("\u2066a\u2069\u200f", "<U+2066>a<U+2069><U+200F>"),
}


@pytest.mark.parametrize(("text", "expected"), _HOSTILE.values(), ids=_HOSTILE.keys())
def test_hostile_text_is_disarmed(text: str, expected: str) -> None:
    """Nothing acts on the terminal; what people could read before they can read still."""
    assert harmless(text) == expected


def test_tabs_and_every_script_pass() -> None:
    text = "tab\there, ünï, 日本語, 👩‍💻, العربية"
    assert harmless(text) == text


def test_styles_pass_and_end_with_the_text() -> None:
    """A task may colour its line, but not what comes after it."""
    assert harmless("\x1b[1;38;5;196mred") == "\x1b[1;38;5;196mred" + RESET


def test_styles_go_where_no_colour_is_wanted() -> None:
    assert harmless("\x1b[31mred\x1b[0m", styles=False) == "red"


@given(st.text(st.sampled_from("a;0m[]\\PX^_?>c \t\n\r\x07\x1b\x90\x9b\x9c\x9d\u202e")))
def test_whatever_comes_is_harmless(text: str) -> None:
    """No mixture of pieces of sequences makes a new one."""
    assert _HARMLESS.fullmatch(harmless(text))
    assert "\x1b" not in harmless(text, styles=False)


@pytest.mark.parametrize("text", ["\x1b]" * 200_000, "\x9d" * 400_000, "\x1b[" + "0" * 400_000, "\x1b " * 200_000])
@pytest.mark.timeout(10)
def test_long_hostile_lines_take_linear_time(text: str) -> None:
    harmless(text)


def test_fit_leaves_the_last_cell_free() -> None:
    """A row that is full to its last cell wraps on some terminals, and could not be erased."""
    assert fit("0123456789", columns=10) == "012345678"
    assert fit("0123456", columns=10) == "0123456"


def test_fit_counts_cells() -> None:
    """Wide characters take two cells, styles and combining marks none, and a tab is made one."""
    assert fit("日本語", columns=6) == "日本"
    assert fit("\x1b[31mabc\x1b[0m", columns=4) == "\x1b[31mabc\x1b[0m"
    assert fit("\x1b[31mabcdef", columns=4) == "\x1b[31mabc" + RESET
    assert fit("e\u0301e\u0301e\u0301", columns=3) == "e\u0301e\u0301"
    assert fit("a\tb", columns=10) == "a b"
