"""The messages of a program that sends its log line by line, as JSON text: what each may hold, and what it means. Pure.

One message is one record, so that the number which its sender may give it, `seq`, is the record's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

import msgspec

from celery_livelog.endings import Ending
from celery_livelog.records import StageComplete, StageError, StageProgress, StageStart, Trace

#: The notice of a sender that had to drop some lines.
_SKIPPED = re.compile(r"\[([0-9]{1,9}) messages skipped\]")
_STATE = re.compile(r"[A-Z]{1,32}")
#: A date and a time, parts of a second, and a zone: no more than what all versions of Python read alike.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_STREAMS = frozenset({"stdout", "stderr", "log", "internal"})
#: The greatest number that any reader of JSON holds exactly.
_GREATEST = 2**53 - 1

Id = str | int
Number = Annotated[int, msgspec.Meta(ge=1, le=_GREATEST)]


class BadMessage(Exception):
    """Raised for a message that is none. Its text says what was expected."""


class Message(msgspec.Struct, kw_only=True):
    """What all messages about a task have: its id, when it was said, and if the sender counts, which one it is.

    `attempt` is what the sender calls this execution of the task, when there are several.
    """

    task_id: Id = ""
    work_request_id: Id = ""
    timestamp: str = ""
    seq: Number | None = None
    attempt: Id = ""

    @property
    def task(self) -> str:
        """The id of the task."""
        return str(self.work_request_id if self.task_id == "" else self.task_id)


class LineMessage(Message, kw_only=True, tag="log_line"):
    """One line."""

    line: str
    stream: str = "stdout"
    level: str | None = None
    logger: str | None = None
    stage: Number | None = None
    fields: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The line without its end; another line break in it is shown as what it is."""
        line = self.line.removesuffix("\n").removesuffix("\r")
        if "\n" in line or "\r" in line:
            line = line.replace("\n", "\\n").replace("\r", "\\r")
        return line

    @property
    def skipped(self) -> int:
        """How many lines it says that its sender has dropped; 0 when it says no such thing."""
        found = _SKIPPED.fullmatch(self.line) if self.stream == "internal" else None
        return int(found[1]) if found else 0


class EndMessage(Message, kw_only=True, tag="log_line_end"):
    """The task is over."""

    exit_code: Annotated[int, msgspec.Meta(ge=-255, le=255)]
    state: str = ""
    reason: str = ""

    @property
    def ending(self) -> Ending:
        """How it ended. An exit code below 0 is that of a signal, as Python has it."""
        code = 128 - self.exit_code if self.exit_code < 0 else self.exit_code
        return Ending(self.state or ("FAILURE" if code else "SUCCESS"), code, self.reason)


class GapMessage(Message, kw_only=True, tag="gap"):
    """The sender has dropped so many messages here."""

    skipped: Number


class _StageStart(Message, kw_only=True, tag="stage_start"):
    stage: Number
    name: str
    pending: int | None = None


class _StageProgress(Message, kw_only=True, tag="stage_progress"):
    stage: Number
    name: str
    done: int
    total: int | None = None
    message: str = ""


class _StageComplete(Message, kw_only=True, tag="stage_complete"):
    stage: Number
    name: str
    elapsed: float
    processed: int = 0
    result: Any = None


class _StageError(Message, kw_only=True, tag="stage_error"):
    stage: Number
    name: str
    elapsed: float
    error: str
    processed: int = 0
    traceback: str = ""


class _Trace(Message, kw_only=True, tag="trace"):
    event: str
    data: Any = None
    stage: Number | None = None


EventMessage = _StageStart | _StageProgress | _StageComplete | _StageError | _Trace
LogMessage = LineMessage | EndMessage | GapMessage | EventMessage

_KINDS: dict[type[Any], type[Any]] = {
    _StageStart: StageStart,
    _StageProgress: StageProgress,
    _StageComplete: StageComplete,
    _StageError: StageError,
    _Trace: Trace,
}
_OURS = frozenset(Message.__struct_fields__)
_decode: Callable[[str | bytes], LogMessage] = msgspec.json.Decoder(LogMessage).decode


def parse(text: str | bytes) -> LogMessage:
    """Read a message.

    :raises BadMessage: when it is none.
    """
    try:
        message = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadMessage(f"not a message: {str(error)[:200]}") from None
    if not message.task:
        raise BadMessage("a message without task; expected a work_request_id or a task_id")
    if message.timestamp:
        message.timestamp = time_of(message.timestamp)
    if isinstance(message, LineMessage) and message.stream not in _STREAMS:
        raise BadMessage(f"stream is {message.stream[:60]!r}; expected one of {', '.join(sorted(_STREAMS))}")
    if isinstance(message, EndMessage) and message.state and not is_final(message.state):
        raise BadMessage(f"state is {message.state[:60]!r}; expected none, or one such as SUCCESS or FAILURE")
    return message


def is_final(state: str) -> bool:
    """Whether a text can be the state of what is over."""
    return bool(_STATE.fullmatch(state)) and state != "STARTED"


def time_of(text: str) -> str:
    """A time as records have it: as it was sent if it is in UTC and says so, else the same moment in UTC.

    :raises BadMessage: when it is no time with a zone.
    """
    try:
        utc = _moment(text).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise BadMessage(f"timestamp is {text[:60]!r}; expected one such as 2026-05-09T14:23:01+00:00") from None
    return text if text.endswith("+00:00") and text[10] == "T" else utc.isoformat(timespec="microseconds")


def nanoseconds(timestamp: str) -> int:
    """A time of a record in ns since 1970."""
    since = _moment(timestamp) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since // timedelta(microseconds=1)) * 1000


def _moment(text: str) -> datetime:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError
    date, time, fraction, zone = found.groups()
    return datetime.fromisoformat(f"{date}T{time}.{(fraction or '')[:6]:0<6}{'+00:00' if zone == 'Z' else zone}")


def event_of(message: EventMessage) -> dict[str, Any]:
    """An event as the numbering takes it."""
    fields = {name: getattr(message, name) for name in message.__struct_fields__ if name not in _OURS}
    return {"type": _KINDS[type(message)].__struct_config__.tag, **fields}
