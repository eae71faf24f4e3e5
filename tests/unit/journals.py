"""Journals for tests: a process' journal to write, and what is in it, read as a shipper does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.frames import BEGIN, Frame, FrameReader
from celery_livelog.journal import Journal
from celery_livelog.records import Gap, Line, Record
from celery_livelog.shipper.attempt import AttemptLog
from celery_livelog.writer import AttemptWriter

PROCESS = "4711-00c0ffee"
NO_RAW_FILES = (0, 0)
#: A budget that no test reaches.
AMPLE = 1 << 30
ENDING = b'{"state":"SUCCESS","exit_code":0,"reason":""}'


def open_journal(directory: Path, budget: int = AMPLE) -> Journal:
    """A journal that rings for nobody."""
    return Journal(directory, PROCESS, budget, ring=lambda: None)


def begin(to: Journal, slot: int = 1, task_id: str = "a-task") -> AttemptWriter:
    """Begin an attempt, as a task's process does."""
    begun = Attempt(attempt=f"{slot:016x}", task_id=task_id, pid=4711, started="2026-01-02T03:04:05.000006+00:00")
    to.append(BEGIN, 0, slot, 0, NO_RAW_FILES, msgspec.json.encode({"attempt": begun}), force=True)
    return AttemptWriter(to, slot, lambda: NO_RAW_FILES)


def paths(directory: Path) -> list[Path]:
    """The files of the journal, in order."""
    return sorted(directory.glob(f"{PROCESS}.*.journal"))


def frames(directory: Path) -> list[Frame]:
    """All frames of a journal that is written no more."""
    return [frame for path in paths(directory) for frame in frames_of(path)]


def frames_of(path: Path) -> list[Frame]:
    """All frames of one file that is written no more."""
    reader = FrameReader(path)
    found: list[Frame] = []
    while read := reader.read(complete=True):
        found += [frame for _, frame in read]
    reader.close()
    return found


def records(directory: Path) -> list[Record]:
    """What becomes of a journal with one attempt."""
    first, *rest = frames(directory)
    assert first.kind == BEGIN
    log = AttemptLog(msgspec.convert(msgspec.json.decode(first.payload)["attempt"], Attempt))
    return [record for frame in rest for record in log.feed(frame)]


def lines(found: Sequence[Record]) -> list[tuple[str, str]]:
    """The lines with their streams."""
    return [(record.stream, record.line) for record in found if isinstance(record, Line)]


def skipped(found: Sequence[Record]) -> int:
    """How many lines the gaps stand for."""
    return sum(record.skipped for record in found if isinstance(record, Gap))
