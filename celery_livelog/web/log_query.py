"""What a request for a task's log asks for, read from the arguments of its URL. Pure: never reads a log."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_livelog.cursors import Cursor
from celery_livelog.errors import CursorError
from celery_livelog.permissions import SEARCH
from celery_livelog.records import Gap, Partial, Record
from celery_livelog.selection import LEVELS, Selection

#: The longest that one request may be held, in seconds; below the minute after which proxies give up.
LONGEST_WAIT = 50.0

_FORMATS = ("text", "ndjson", "sse")
_STREAMS = ("stdout", "stderr", "log", "internal")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """A checked request for a log.

    :param tail: the last so many records of those that `selection` keeps.
    :param lines: first and last record number, both included, within one attempt.
    """

    format: str = "text"
    attempt: int | None = None
    after: Cursor | None = None
    tail: int | None = None
    lines: tuple[int, int] | None = None
    follow: bool = False
    wait: float = 0.0
    selection: Selection = field(default_factory=Selection)
    #: What the viewer does beside reading.
    action: str | None = None

    @classmethod
    def parse(cls, arguments: Mapping[str, str]) -> LogQuery:
        """Read the arguments of a URL; those unknown or empty are ignored.

        :raises ValueError: naming the argument, what it was, and what it should be.
        """
        given: dict[str, Any] = {}
        conditions: dict[str, Any] = {}
        for name, text in arguments.items():
            if name not in _ARGUMENTS or not text:
                continue
            read, expected = _ARGUMENTS[name]
            place, key = (conditions, _CONDITIONS[name]) if name in _CONDITIONS else (given, name)
            try:
                place[key] = read(text)
            except (ValueError, CursorError):
                raise ValueError(f"{name} is {text[:60]!r}; expected {expected}") from None
        return cls(**given, selection=Selection(**conditions), action=SEARCH if conditions else None)

    def takes(self, number: int, record: Record) -> bool:
        """Whether a record of attempt `number` belongs to the answer. What is not finished never does."""
        if isinstance(record, Partial):
            return False
        if self.lines is not None:
            first = record.first if isinstance(record, Gap) else record.n
            if first > self.lines[1] or record.n < self.lines[0]:
                return False
        return self.selection.keeps(number, record)


def asked(arguments: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """The arguments of a request, with what a browser's EventSource says by headers: what it wants, and where it was.

    :param headers: their names in lower case, or in any.
    """
    given = dict(arguments)
    if "text/event-stream" in headers.get("accept", ""):
        given["format"] = "sse"
    if given.get("format") == "sse":
        given.setdefault("follow", "1")
        last = headers.get("last-event-id")
        if last:  # it comes again with the URL that it began with
            given.pop("tail", None)
            given["after"] = last
    return given


def _number(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,15}", text) and int(text) >= least:
            return int(text)
        raise ValueError

    return read


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    return read


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    numbers = _number(1)(first), _number(1)(last or first)
    if numbers[0] > numbers[1]:
        raise ValueError
    return numbers


def _streams(text: str) -> frozenset[str]:
    return frozenset(map(_one_of(_STREAMS), text.split(",")))


def _level(text: str) -> int:
    return LEVELS[_one_of(tuple(LEVELS))(text.upper())]


def _literal(text: str) -> re.Pattern[str]:
    """Text that is to be found as it is: a pattern from outside could keep the server busy for ever."""
    return re.compile(re.escape(text))


def _flag(text: str) -> bool:
    return _one_of(("0", "1"))(text) == "1"


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError
    return min(float(text), LONGEST_WAIT)


_ARGUMENTS: dict[str, tuple[Callable[[str], Any], str]] = {
    "format": (_one_of(_FORMATS), "text, ndjson or sse"),
    "attempt": (_number(1), "1, 2, 3 … in order of start"),
    "after": (Cursor.parse, "a cursor such as 3f2a90bc77d01e44:120"),
    "tail": (_number(0), "a number of records"),
    "lines": (_range, "one number or a range such as 120-140"),
    "stream": (_streams, "one or more of stdout, stderr, log, internal with commas between"),
    "level": (_level, "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
    "stage": (str, "the number or the name of a stage"),
    "grep": (_literal, "a text"),
    "follow": (_flag, "1 or 0"),
    "wait": (_seconds, f"seconds, at most {LONGEST_WAIT:.0f}"),
}
_CONDITIONS = {"stream": "streams", "level": "level", "stage": "stage", "grep": "pattern"}
