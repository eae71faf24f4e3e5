"""The records that flow from a task to its readers: one shape for journal, stream, archive and browser.

Pure: no I/O, and every time is passed in. The wire form is JSON, one object a record; an entry of a Redis Stream
carries the same keys as fields (see `stores.entries`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import msgspec

#: States after which no further attempt of the task is expected.
FINAL_STATES = frozenset({"SUCCESS", "FAILURE", "REVOKED", "ABORTED", "LOST"})


class _Record(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What all records have: `n`, the number within the attempt from 1 without holes; `timestamp`, ISO 8601 UTC."""

    n: int
    timestamp: str

    @property
    def text(self) -> str:
        """The record as a line for people."""
        raise NotImplementedError


class Line(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="log_line"):
    """One line that a task printed or logged; `fields` are the key-values of a logged one.

    `more` marks a piece of an overlong line whose rest follows: in the live stream with the same `n` and
    the next `piece`, in the archive (lines over 4 MiB only) in the next record.
    """

    stream: str
    line: str
    level: str | None = None
    logger: str | None = None
    stage: int | None = None
    fields: dict[str, Any] | None = None
    piece: int = 0
    more: bool = False

    @property
    def text(self) -> str:
        return self.line if self.fields is None or self.more else f"{self.line}  {_shown(self.fields)}"


class StageStart(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="stage_start"):
    """A stage begins; `pending` is how many items it expects."""

    stage: int
    name: str
    pending: int | None = None

    @property
    def text(self) -> str:
        pending = "" if self.pending is None else f" ({self.pending} pending)"
        return f"Stage {self.stage}: {self.name}{pending}"


class StageProgress(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="stage_progress"):
    """How far a stage has come: `done` of `total` items."""

    stage: int
    name: str
    done: int
    total: int | None = None
    message: str = ""

    @property
    def text(self) -> str:
        total = "" if self.total is None else f"/{self.total}"
        return f"Stage {self.stage}: {self.name}: {self.done}{total} {self.message}".rstrip()


class StageComplete(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="stage_complete"):
    """A stage ended well after `elapsed` seconds with `processed` items."""

    stage: int
    name: str
    elapsed: float
    processed: int = 0
    result: Any = None

    @property
    def text(self) -> str:
        processed = f", {self.processed} processed" if self.processed else ""
        return f"Stage {self.stage}: {self.name}: complete{processed} in {self.elapsed:.2f} s"


class StageError(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="stage_error"):
    """A stage ended by an exception."""

    stage: int
    name: str
    elapsed: float
    error: str
    processed: int = 0
    traceback: str = ""

    @property
    def text(self) -> str:
        return f"Stage {self.stage}: {self.name}: failed after {self.elapsed:.2f} s: {self.error}"


class RunStart(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="run_start"):
    """The task begins a run; see `runs.Run`."""

    run_id: str
    name: str = ""
    account: str = ""
    site: str = ""
    fields: dict[str, str] = {}
    started: str = ""

    @property
    def text(self) -> str:
        return f"Run {self.run_id}{': ' if self.name else ''}{self.name}"


class RunEnd(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="run_end"):
    """The run that the task had begun is over after `elapsed` seconds."""

    run_id: str
    state: str
    elapsed: float
    error: str = ""

    @property
    def text(self) -> str:
        error = f": {self.error}" if self.error else ""
        return f"Run {self.run_id}: {self.state} after {self.elapsed:.2f} s{error}"


class Trace(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="trace"):
    """A structured event of the task's own."""

    event: str
    data: Any = None
    stage: int | None = None

    @property
    def text(self) -> str:
        return f"{self.event} {'' if self.data is None else msgspec.json.encode(self.data).decode()}".rstrip()


class Gap(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="gap"):
    """Records `first` to `last` (both included) are not here; `n` is `last`, so that a cursor steps over it.

    `note` says where they are and what to do, if anything can be done.
    """

    skipped: int
    first: int
    last: int
    reason: str
    note: str = ""

    @property
    def text(self) -> str:
        return f"[{self.skipped} messages skipped{': ' if self.note else ''}{self.note}]"


class End(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="log_line_end"):
    """The attempt is over. `exit_code`: 0 success, 1 failure, 128 + signal when killed."""

    state: str
    exit_code: int
    reason: str = ""

    @property
    def final(self) -> bool:
        """Whether no further attempt of the task is expected."""
        return self.state in FINAL_STATES

    @property
    def text(self) -> str:
        return f"[{self.state}{': ' if self.reason else ''}{self.reason}]"


class Partial(_Record, frozen=True, omit_defaults=True, kw_only=True, tag="partial"):
    """The state so far of the line that will be record `n`; live only, replaced by that record, never archived.

    `redrawn` marks a line that went back to its start, as progress bars do: it will not go on from this text.
    """

    stream: str
    line: str
    redrawn: bool = False

    @property
    def text(self) -> str:
        return self.line


StageEvent = StageStart | StageProgress | StageComplete | StageError | RunStart | RunEnd | Trace
Record = Line | StageEvent | Gap | End | Partial

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Record).decode


def _shown(fields: Mapping[str, Any]) -> str:
    """Key-values for people: texts without blanks as they are, all else as JSON."""
    return " ".join(
        f"{key}={value if isinstance(value, str) and _BARE(value) else encode(value).decode()}"
        for key, value in fields.items()
    )


_BARE = re.compile(r"[^\s\"'=]+").fullmatch


def utc(time_ns: int) -> str:
    """Nanoseconds since the epoch as ISO 8601 UTC with microseconds."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{_utc_second(seconds)}.{nanoseconds // 1000:06d}+00:00"


@lru_cache(maxsize=64)
def _utc_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
