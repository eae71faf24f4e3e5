"""Judges what is shown of what was printed: nothing missing without a mark, nothing twice, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from celery_livelog.records import End, Gap, Line, Partial, Record
from tests.faults import chatter


@dataclass
class Verdict:
    """What a reader has seen of a chatter's log, and what is wrong with it. All counts are of lines it has printed."""

    shown: int = 0
    skipped: int = 0
    doubles: int = 0
    missing: int = 0
    end: End | None = None
    wrong: list[str] = field(default_factory=list)


def judge(records: Iterable[Record], printed: int) -> Verdict:
    """Judge a whole log as a reader gets it: of what was printed, each line is shown or skipped."""
    verdict, n = Verdict(), 0
    for record in records:
        if isinstance(record, Partial):
            continue
        first = record.first if isinstance(record, Gap) else record.n
        if first <= n:
            verdict.doubles += 1
            verdict.wrong.append(f"{record!r} after {n}")
            continue
        if first > n + 1:
            verdict.missing += min(first - 1, printed) - n
            verdict.wrong.append(f"{record!r} after {n}, without a gap")
        n = record.n
        _take(verdict, record, printed)
    if n < printed:
        verdict.missing += printed - n
        verdict.wrong.append(f"nothing after {n} of {printed}")
    if verdict.shown + verdict.skipped != printed:
        verdict.wrong.append(f"{verdict.shown} shown and {verdict.skipped} skipped of {printed} printed")
    if verdict.end is None:
        verdict.wrong.append("no end")
    return verdict


def complete(records: Iterable[Record], printed: int) -> Verdict:
    """Judge a log that must hold every line."""
    verdict = judge(records, printed)
    if verdict.skipped:
        verdict.wrong.append(f"{verdict.skipped} lines skipped")
    return verdict


def last_number(records: Iterable[Record]) -> int:
    """The number of the last line: of a writer that was killed it may be one that it had not noted."""
    return max((record.n for record in records if isinstance(record, Line) and record.stream == "stdout"), default=0)


def _take(verdict: Verdict, record: Record, printed: int) -> None:
    if isinstance(record, Gap):
        verdict.skipped += max(0, min(record.last, printed) - record.first + 1)
    elif isinstance(record, End):
        verdict.end = record
    elif isinstance(record, Line) and record.stream == "stdout":
        verdict.shown += 1
        if record.line != chatter.line(record.n):
            verdict.wrong.append(f"line {record.n} reads {record.line!r}")
