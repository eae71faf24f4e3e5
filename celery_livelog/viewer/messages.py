"""What viewers and server say to each other: the messages of protocol 1, as ``docs/protocol.md`` has them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from celery_livelog.cursors import Cursor
from celery_livelog.errors import CursorError, LivelogError
from celery_livelog.reader.merge import Batch
from celery_livelog.records import Line, Partial, Record, encode

PROTOCOL = 1
#: Bytes that a viewer which acknowledges may have before it without an acknowledgement.
WINDOW = 64 * 1024

#: Bytes of a message from a viewer.
_LONGEST = 64 * 1024
#: Records and, as far as one record is not more, characters of text in one message.
_RECORDS, _TEXT = 200, 32 * 1024

HELLO = encode({"type": "hello", "protocol": PROTOCOL, "window": WINDOW})
HEARTBEAT = b'{"type":"heartbeat"}'


class MessageError(LivelogError):
    """Raised for a message that is none; `code` is what the viewer is told beside the sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Command(msgspec.Struct):
    """A message from a viewer."""

    type: str
    task_id: str = ""
    run_id: str = ""
    after: str | None = None
    tail: int | None = None
    token: str | None = None
    n: int = 0
    attempt: str = ""

    @property
    def place(self) -> Cursor | None:
        """Where a subscription goes on."""
        return Cursor.parse(self.after) if self.after else None


class Message(NamedTuple):
    """Records on their way to a viewer, encoded.

    `n` is the last one, 0 where there are only half lines; `more`: the rest of that line follows.
    """

    data: bytes
    attempt: str
    n: int
    more: bool = False


def parse(message: str | bytes) -> Command:
    """Read a message from a viewer.

    :raises MessageError: when it is none, or says what cannot be.
    """
    try:
        if len(message) > _LONGEST:
            raise ValueError
        command = msgspec.json.decode(message, type=Command)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise MessageError("bad_message", "expected a JSON object with a type, such as subscribe") from None
    if command.type not in ("subscribe", "ack", "pause", "resume"):
        raise MessageError("unknown_command", "expected subscribe, ack, pause or resume")
    if command.type == "subscribe":
        _check(command)
    return command


def error(code: str, sentence: str) -> bytes:
    """The message that says what was wrong."""
    return encode({"type": "error", "code": code, "message": sentence})


def run_over(run_id: str, state: str) -> Message:
    """The last message of a run's log."""
    return Message(encode({"type": "run_over", "run_id": run_id, "state": state}), "", 0)


def messages(batch: Batch, task_id: str = "") -> list[Message]:
    """A batch as messages, made once for all viewers that it is given to.

    :param task_id: the task that it is of, where that is not plain: in the log of a run.
    """
    if batch.kept is None:
        batch.kept = [_message(batch, records, task_id) for records in _portions(batch.records)]
    made: list[Message] = batch.kept
    return made


def _message(batch: Batch, records: Sequence[Record], task_id: str) -> Message:
    of_task = {"task_id": task_id} if task_id else {}
    fields = {"type": "records", **of_task, "attempt": batch.attempt, "number": batch.number, "records": records}
    last = next((record for record in reversed(records) if not isinstance(record, Partial)), None)
    more = isinstance(last, Line) and last.more
    return Message(encode(fields), batch.attempt, 0 if last is None else last.n, more)


def _check(command: Command) -> None:
    try:
        Cursor.parse(command.after) if command.after else None
    except CursorError as wrong:
        raise MessageError("bad_cursor", str(wrong)) from None
    if bool(command.task_id) == bool(command.run_id):
        raise MessageError("bad_message", "expected either a task_id or a run_id")
    if command.tail is not None and (command.tail < 0 or command.run_id):
        raise MessageError("bad_message", "expected a tail of 0 or more, and none for a run")


def _portions(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    start = size = 0
    for place, record in enumerate(records):
        length = len(record.text)
        if place > start and (place - start == _RECORDS or size + length > _TEXT):
            yield records[start:place]
            start, size = place, 0
        size += length
    if start < len(records):
        yield records[start:]
