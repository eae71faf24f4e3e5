"""What the files of a run say: a log that people read, one for each stage, and two of JSON lines. Pure.

All times are in the configured time zone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from celery_livelog.records import (
    End,
    Gap,
    Line,
    Record,
    StageComplete,
    StageError,
    StageProgress,
    StageStart,
    Trace,
)
from celery_livelog.run_progress import Event, in_zone, of_event, of_interruption, why
from celery_livelog.runs import Run

TRACE, PROGRESS = "run_trace.jsonl", "stages/progress.jsonl"
#: Stages up to this number have a log of their own: a task that makes a stage of each item must not fill the directory.
_STAGE_LOGS = 1000

_OF_STAGES = (StageStart, StageProgress, StageComplete, StageError)
_json = msgspec.json.Encoder().encode


class Teller(msgspec.Struct, array_like=True, frozen=True):
    """The attempt that tells something: its id, its task's id and name, where it runs, which retry it is."""

    attempt: str
    task_id: str
    name: str
    worker: str
    retries: int


class Told(msgspec.Struct):
    """How far an attempt has told its part: the number of its last record, and the stages that are open, by number."""

    n: int = 0
    stages: dict[int, str] = {}


class RunText:
    """Gathers what is to be appended to the files of one run.

    :param log: the name of the run's log.
    """

    def __init__(self, run: Run, log: str, zone: ZoneInfo) -> None:
        self._run = run
        self._log = log
        self._zone = zone
        self._files: dict[str, list[bytes]] = defaultdict(list)

    def files(self) -> dict[str, bytes]:
        """What is to be appended, by file."""
        return {name: b"\n".join([*lines, b""]) for name, lines in self._files.items()}

    def head(self, teller: Teller, *, tells_itself: bool) -> None:
        """Begin the run's log with what is known of the run.

        :param tells_itself: whether its first record says that the run starts.
        """
        run = self._run
        known = {"Run": run.run_id, "Name": run.name, "Account": run.account, "Site": run.site, **run.fields}
        known |= {"Started": in_zone(run.started, self._zone).isoformat(" ", "milliseconds"), "Worker": teller.worker}
        width = max(map(len, known)) + 1
        for name, value in known.items():
            self._put(self._log, f"# {_one_line(name) + ':':<{width}} {_one_line(value)}".rstrip())
        self._put(self._log, "")
        if not tells_itself:
            self._trace(teller, run.started, {"type": "run_start", **msgspec.to_builtins(run)})

    def begin(self, teller: Teller, started: str) -> None:
        """A task of the run begins."""
        again = f", retry {teller.retries}" if teller.retries else ""
        self._tell(self._log, started, teller, f"[begins: task {teller.task_id} on {teller.worker}{again}]")

    def gap(self, teller: Teller, skipped: int, timestamp: str) -> None:
        """So many records are not here."""
        self._tell(self._log, timestamp, teller, f"[{skipped} messages skipped]")

    def take(self, teller: Teller, records: Iterable[Record], told: Told) -> None:
        """Take records of an attempt, and keep up in `told` how far it has told its part."""
        for record in records:
            if isinstance(record, End):
                self._interrupt(teller, record, told)
            text = _text(record)
            self._tell(self._log, record.timestamp, teller, text)
            if isinstance(record, (Line, Trace)) and record.stage is not None:
                self._tell_stage(record.stage, record.timestamp, teller, text)
            elif isinstance(record, _OF_STAGES):
                text += f"\n{record.traceback.rstrip()}" if isinstance(record, StageError) else ""
                self._tell_stage(record.stage, record.timestamp, teller, text)
                self._files[PROGRESS].append(of_event(record, teller.task_id, self._zone))
                _keep_open(record, told)
            if not isinstance(record, (Line, Gap)):
                self._trace(teller, record.timestamp, msgspec.to_builtins(record))
            told.n = record.n

    def _interrupt(self, teller: Teller, end: End, told: Told) -> None:
        """What the attempt leaves open when it ends, the innermost first, is interrupted."""
        for stage, name in sorted(told.stages.items(), reverse=True):
            text = f"Stage {stage}: {name}: {why(end)}"
            self._tell(self._log, end.timestamp, teller, text)
            self._tell_stage(stage, end.timestamp, teller, text)
            self._files[PROGRESS].append(of_interruption(stage, name, end, teller.task_id, self._zone))
            error = {"type": "stage_error", "n": end.n, "stage": stage, "name": name, "error": why(end)}
            self._trace(teller, end.timestamp, error)
        told.stages.clear()

    def _trace(self, teller: Teller, timestamp: str, event: dict[str, Any]) -> None:
        at = {"timestamp": in_zone(timestamp, self._zone).isoformat()}
        whose = {"run_id": self._run.run_id, "task_id": teller.task_id, "attempt": teller.attempt}
        self._files[TRACE].append(_json({**event, **at, **whose}))

    def _tell_stage(self, stage: int, timestamp: str, teller: Teller, text: str) -> None:
        if stage <= _STAGE_LOGS:
            self._tell(f"stage_{stage}.log", timestamp, teller, text)

    def _tell(self, file: str, timestamp: str, teller: Teller, text: str) -> None:
        before = _before(timestamp, self._zone, teller)
        if "\n" in text:
            text = text.replace("\n", f"\n{before}")
        self._put(file, before + text)

    def _put(self, file: str, line: str) -> None:
        self._files[file].append(line.encode("utf-8", "backslashreplace"))


@lru_cache(maxsize=64)
def _before(timestamp: str, zone: ZoneInfo, teller: Teller) -> str:
    """What stands before each line."""
    return f"{in_zone(timestamp, zone).isoformat(' ', 'milliseconds')} {_short(teller)} "


@lru_cache(maxsize=64)
def _short(teller: Teller) -> str:
    return _one_line(f"{teller.name.rpartition('.')[2] or 'task'}[{teller.task_id[:8]}]")


def _text(record: Record) -> str:
    if isinstance(record, StageComplete) and record.result is not None:
        return f"{record.text}: {_json(record.result).decode()}"
    return record.text


def _keep_open(record: Event, told: Told) -> None:
    if isinstance(record, StageStart):
        told.stages[record.stage] = record.name
    elif not isinstance(record, StageProgress):
        told.stages.pop(record.stage, None)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
