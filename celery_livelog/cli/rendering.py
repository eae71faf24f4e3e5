"""Records as text: for a terminal, for a pipe, as JSON. Pure: gives the text to write, never writes.

Rules:
- a pipe gets what the task printed, byte for byte; a terminal gets it harmless and in colour;
- the text of an unfinished line is only ever added to in a pipe, and drawn again on a terminal;
- what cannot go on from the unfinished line that stands there begins on a new row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import click
import msgspec

from celery_livelog.cli.terminal import ERASE, fit, harmless
from celery_livelog.cli.times import local_time
from celery_livelog.records import Line, Partial, Record

_LEVEL_STYLES: dict[str, dict[str, str | bool]] = {
    "DEBUG": {"dim": True},
    "WARNING": {"fg": "yellow"},
    "ERROR": {"fg": "bright_red"},
    "CRITICAL": {"fg": "bright_red", "bold": True},
}
_STREAM_STYLES: dict[str, dict[str, str | bool]] = {"stderr": {"fg": "red"}, "internal": {"dim": True}}
_NOT_FOR_TERMINALS = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

#: An unfinished line: the number of its attempt, and its stream.
_Key = tuple[int, str]


class Rendering(Protocol):
    """What turns the records of a log, in order, into text."""

    def feed(self, number: int, record: Record) -> str:
        """Give what to write for a record of attempt `number`."""

    def interrupt(self) -> str:
        """Give what to write before something that is not of the log appears on the same terminal, and at the end."""


class Pipe:
    """The text of the lines and nothing else.

    :param timestamps: put the time of each line before it.
    """

    def __init__(self, timestamps: bool = False) -> None:
        self._timestamps = timestamps
        self._open: _Key | None = None
        self._shown = ""

    def feed(self, number: int, record: Record) -> str:
        if isinstance(record, Partial):
            return self._partial(number, record)
        key = (number, record.stream) if isinstance(record, Line) else None
        if self._open is not None and key == self._open and record.text.startswith(self._shown):
            text = record.text[len(self._shown) :]
        else:
            text = ("\n" if self._open else "") + self._prefix(record) + record.text
        self._shown = ""
        self._open = key if isinstance(record, Line) and record.more else None
        return text if self._open else text + "\n"

    def interrupt(self) -> str:
        return ""

    def _partial(self, number: int, record: Partial) -> str:
        key = (number, record.stream)
        grows = self._open in (None, key) and record.line.startswith(self._shown) and record.line != self._shown
        if not grows or record.redrawn or self._timestamps:  # a line's time is that of its end: not known yet
            return ""
        added = record.line[len(self._shown) :]
        self._open, self._shown = key, record.line
        return added

    def _prefix(self, record: Record) -> str:
        return f"{local_time(record.timestamp)} " if self._timestamps else ""


class Screen:
    """Harmless text in colour, and below it the unfinished line as it stands.

    :param columns: gives the cells of a row of the terminal.
    :param colour: let the task's own colours through, and add ours.
    :param timestamps: put the time of each line before it.
    """

    def __init__(self, columns: Callable[[], int], colour: bool = True, timestamps: bool = False) -> None:
        self._columns = columns
        self._colour = colour
        self._timestamps = timestamps
        self._open: _Key | None = None
        self._drawn = False
        self._partials: dict[_Key, Partial] = {}

    def feed(self, number: int, record: Record) -> str:
        if isinstance(record, Partial):
            self._partials.pop((number, record.stream), None)
            if record.line:
                self._partials[number, record.stream] = record
            return self._redraw()
        if not isinstance(record, Line):
            self._partials.clear()
            return f"{self.interrupt()}{self._styled(record)}\n"
        key = (number, record.stream)
        self._partials.pop(key, None)
        goes_on = self._open == key
        text = ("" if goes_on else self.interrupt()) + self._styled(record, prefix=not goes_on)
        self._open = key if record.more else None
        return text if record.more else f"{text}\n{self._redraw()}"

    def interrupt(self) -> str:
        """Clear the row of an unfinished line, or leave it if it is in the log already."""
        text = ERASE if self._drawn else "\n" if self._open else ""
        self._drawn, self._open = False, None
        return text

    def _redraw(self) -> str:
        if self._open is not None:  # pieces of a line stand there, on more rows than could be erased
            return ""
        erase = self.interrupt()
        if not self._partials:
            return erase
        self._drawn = True
        return erase + fit(self._styled([*self._partials.values()][-1]), self._columns())

    def _styled(self, record: Record, prefix: bool = True) -> str:
        text = "\n".join(harmless(line, styles=self._colour) for line in record.text.split("\n"))
        if self._colour:
            style = _style(record)
            text = click.style(text, reset=True, **style) if style else text  # type: ignore[arg-type]
        return f"{local_time(record.timestamp)} {text}" if prefix and self._timestamps else text


class JsonLines:
    """One JSON object a record, with `task_id` and `attempt` = 1, 2, 3 beside what the record has.

    :param on_terminal: escape what could act on a terminal and JSON leaves as it is.
    """

    def __init__(self, task_id: str, on_terminal: bool = False) -> None:
        self._task_id = task_id
        self._on_terminal = on_terminal

    def feed(self, number: int, record: Record) -> str:
        if isinstance(record, Partial):
            return ""
        fields = {**msgspec.to_builtins(record), "task_id": self._task_id, "attempt": number}
        text = msgspec.json.encode(fields).decode()
        return (_NOT_FOR_TERMINALS.sub(_escaped, text) if self._on_terminal else text) + "\n"

    def interrupt(self) -> str:
        return ""


def _style(record: Record) -> dict[str, str | bool]:
    if isinstance(record, Line) and record.level is not None:
        return _LEVEL_STYLES.get(record.level.upper(), {})
    stream = record.stream if isinstance(record, (Line, Partial)) else "internal"
    return _STREAM_STYLES.get(stream, {})


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
