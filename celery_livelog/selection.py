"""Which records of a log are to be shown. Pure: no I/O, knows no terminal.

Rules:
- every condition that is given must hold;
- a level is a minimum, and only what was logged has one: what a task prints is not shown then;
- a gap and an end are always shown: they say whether all that was asked for is there.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

import msgspec

from celery_livelog.records import End, Gap, Line, Partial, Record

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_OWN_LEVEL = re.compile(r"(?:Level )?(\d+)")


@dataclass(slots=True, kw_only=True)
class Selection:
    """The conditions of one reading; without any, all is shown.

    :param streams: the streams to show; stage events count as ``internal``.
    :param level: the lowest level to show, as ``logging`` numbers them.
    :param stage: the number or the name of a stage.
    :param since: the time of the first record to show, as records carry it.
    :param pattern: what a line must contain.
    """

    streams: frozenset[str] = frozenset()
    level: int | None = None
    stage: str | None = None
    since: str | None = None
    pattern: re.Pattern[str] | None = None
    _stages: set[tuple[int, int]] = field(default_factory=set)

    @property
    def everything(self) -> bool:
        """Whether no condition is given."""
        return not self.streams and not self.since and not self._needs_whole_line

    def keeps(self, number: int, record: Record) -> bool:
        """Whether a record of attempt `number` is to be shown. Lines must be whole."""
        if isinstance(record, End):
            return True
        in_stage = self.stage is None or self._in_stage(number, record)
        if self.since is not None and record.timestamp < self.since:
            return False
        if isinstance(record, Gap):
            return True
        if isinstance(record, Partial) and self._needs_whole_line:
            return False
        return (
            in_stage
            and (not self.streams or stream_of(record) in self.streams)
            and (self.level is None or _reaches(record, self.level))
            and (self.pattern is None or self.pattern.search(record.text) is not None)
        )

    @property
    def _needs_whole_line(self) -> bool:
        return self.level is not None or self.stage is not None or self.pattern is not None

    def _in_stage(self, number: int, record: Record) -> bool:
        stage: int | None = getattr(record, "stage", None)
        if stage is None:
            return False
        name = getattr(record, "name", None)  # only the events of a stage tell its name; its lines have the number
        if self.stage == str(stage) or (name is not None and name.casefold() == str(self.stage).casefold()):
            self._stages.add((number, stage))
        return (number, stage) in self._stages


class Joiner:
    """Makes whole lines of the pieces in which overlong ones come."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[int, str], list[Line]] = {}

    def feed(self, number: int, record: Record) -> Record | None:
        """Take a record of attempt `number`; give it back, the whole line that it ends, or None: more is to come."""
        if not isinstance(record, Line):
            return record
        key = (number, record.stream)
        if record.more:
            self._pieces.setdefault(key, []).append(record)
            return None
        if key not in self._pieces:
            return record
        pieces = [*self._pieces.pop(key), record]
        return msgspec.structs.replace(pieces[0], n=record.n, line="".join(piece.line for piece in pieces), more=False)

    def forget(self) -> None:
        """Drop the pieces of unfinished lines."""
        self._pieces.clear()


class Tail:
    """Keeps the last records of several attempts.

    :param count: how many to keep; an end goes with what stands before it and is not counted.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._counted = 0
        self.records: deque[tuple[int, Record]] = deque()

    def feed(self, number: int, record: Record) -> None:
        self.records.append((number, record))
        self._counted += not isinstance(record, End)
        while self._counted > self._count:
            self._counted -= not isinstance(self.records.popleft()[1], End)


def stream_of(record: Record) -> str:
    """The stream of a record; what is no line and no part of one is ``internal``."""
    return record.stream if isinstance(record, (Line, Partial)) else "internal"


def _reaches(record: Record, level: int) -> bool:
    """Whether a record was logged at `level` or above. A level without a known rank passes: better seen than missed."""
    name = record.level if isinstance(record, Line) else None
    if name is None:
        return False
    own = _OWN_LEVEL.fullmatch(name)
    return (int(own[1]) if own else LEVELS.get(name.upper(), level)) >= level
