"""Make a task's text harmless on a terminal, and cut it to a row. Pure; knows text, not records.

Rules:
- of all escape sequences only colours and text styles (SGR) pass;
- no other control character passes but the tab: a task cannot move the cursor or set the clipboard;
- characters that turn the direction of text are shown as <U+202E>, so that a line reads as it is;
- what an unfinished escape sequence would have swallowed stays visible.
"""

from __future__ import annotations

import re

from rich.cells import get_character_cell_size

RESET = "\x1b[0m"
#: Back to the start of the row, which is then empty.
ERASE = "\r\x1b[K"

_SGR = r"\x1b\[[0-9;:]{0,64}m"
_CSI = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
# OSC, DCS, SOS, PM, APC and their terminator. Any C1 control ends their text: no line takes quadratic time.
_STRING = r"(?:\x1b[P\]X^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
_OTHER = r"\x1b[ -/]*[0-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
_BIDI = "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
_UNSAFE = re.compile(f"(?P<sgr>{_SGR})|{_STRING}|{_CSI}|{_OTHER}|(?P<bidi>{_BIDI})")
_CELL = re.compile(f"({_SGR})|(.)", re.DOTALL)


def harmless(text: str, styles: bool = True) -> str:
    """Give `text` without what could act on a terminal; line ends go too.

    :param styles: keep colours and text styles; they end with the text.
    """
    if text.isascii() and text.isprintable():
        return text
    safe = _UNSAFE.sub(_keep_styles if styles else _keep_none, text)
    return safe + RESET if "\x1b" in safe else safe


def fit(text: str, columns: int) -> str:
    """Cut harmless `text` to less than a row of `columns` cells, so that the row can be drawn again."""
    parts: list[str] = []
    room = columns - 1
    for style, character in _CELL.findall(text.replace("\t", " ")):
        room -= get_character_cell_size(character) if character else 0
        if room < 0:
            return "".join(parts) + (RESET if "\x1b" in text else "")
        parts.append(style or character)
    return "".join(parts)


def _keep_styles(match: re.Match[str]) -> str:
    return match["sgr"] or _keep_none(match)


def _keep_none(match: re.Match[str]) -> str:
    return f"<U+{ord(match['bidi']):04X}>" if match["bidi"] else ""
