"""What a request for a task's log asks for, and which records answer it. Pure: never reads a log."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from celery_livelog.errors import CursorError
from celery_livelog.records import Cursor, End, Gap, Line, Partial, Record

#: The longest that one request may be held, in seconds; below the minute after which proxies give up.
LONGEST_WAIT = 50.0

_FORMATS = ("text", "ndjson")
_STREAMS = ("stdout", "stderr", "log", "internal")
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """A checked request for a log. `tail` counts records before the filters take some of them away."""

    format: str = "text"
    attempt: int | None = None
    after: Cursor | None = None
    tail: int | None = None
    #: First and last record number, both included, within one attempt.
    lines: tuple[int, int] | None = None
    streams: frozenset[str] = frozenset()
    #: The least severe log level wanted; 0 takes what has no level, too.
    level: int = 0
    stage: int | None = None
    #: A text that a record must hold as it is; a pattern from outside could take for ever to match.
    grep: str = ""
    follow: bool = False
    wait: float = 0.0

    @classmethod
    def parse(cls, arguments: Mapping[str, str]) -> LogQuery:
        """Read the arguments of a URL; those unknown are ignored.

        :raises ValueError: naming the argument and what it should be.
        """
        given: dict[str, object] = {}
        for name, text in arguments.items():
            reader = _READERS.get(name)
            if reader is not None and text != "":
                try:
                    given[_FIELDS.get(name, name)] = reader(text)
                except (ValueError, CursorError):
                    raise ValueError(f"{name} is {text[:60]!r}; expected {_EXPECTED[name]}") from None
        return cls(**given)  # type: ignore[arg-type]

    def matches(self, record: Record) -> bool:
        """Whether `record` belongs to the answer. Gaps and ends always do: a part must not pass for the whole."""
        if isinstance(record, Partial):
            return False
        if isinstance(record, (Gap, End)):
            return True
        return (
            (not self.streams or _stream_of(record) in self.streams)
            and (not self.level or _severity(record) >= self.level)
            and (self.stage is None or record.stage == self.stage)
            and self.grep in record.text
        )


def _stream_of(record: Record) -> str:
    return record.stream if isinstance(record, Line) else "internal"


def _severity(record: Record) -> int:
    return _LEVELS.get(record.level or "", 0) if isinstance(record, Line) else 0


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
    return _LEVELS[_one_of(tuple(_LEVELS))(text.upper())]


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError
    return min(float(text), LONGEST_WAIT)


_READERS: dict[str, Callable[[str], object]] = {
    "format": _one_of(_FORMATS),
    "attempt": _number(1),
    "after": Cursor.parse,
    "tail": _number(0),
    "lines": _range,
    "stream": _streams,
    "level": _level,
    "stage": _number(0),
    "grep": str,
    "follow": lambda text: _one_of(("0", "1"))(text) == "1",
    "wait": _seconds,
}
_FIELDS = {"stream": "streams"}
_EXPECTED = {
    "format": "text or ndjson",
    "attempt": "1, 2, 3 … in order of start",
    "after": "a cursor such as 3f2a90bc77d01e44:120",
    "tail": "a number of records",
    "lines": "one number or a range such as 120-140",
    "stream": "one or more of stdout, stderr, log, internal with commas between",
    "level": "DEBUG, INFO, WARNING, ERROR or CRITICAL",
    "stage": "the number of a stage",
    "follow": "1 or 0",
    "wait": f"seconds, at most {LONGEST_WAIT:.0f}",
}
