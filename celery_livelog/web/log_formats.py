"""The forms in which a log is answered: text, JSON lines, server-sent events. Records in, bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from celery_livelog.cursors import Cursor
from celery_livelog.reader.merge import Batch
from celery_livelog.records import End, Line, Record, encode


class LogFormat(Protocol):
    """How a log is written.

    `begin` and `end` stand around all of it, `beat` is sent now and then while nothing comes; all may be empty.
    """

    content_type: str
    begin: bytes
    beat: bytes

    def piece(self, task_id: str, batch: Batch, records: Sequence[Record]) -> bytes:
        """These records of a batch."""

    def end(self, said: dict[str, Any]) -> bytes:
        """The log is over."""


class Text:
    """Lines as they were printed.

    :param several: whether there are several attempts; then each has a heading.
    """

    content_type = "text/plain; charset=utf-8"
    begin = beat = b""

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._number = 0

    def piece(self, task_id: str, batch: Batch, records: Sequence[Record]) -> bytes:
        return (self._heading(batch, records) + "".join(map(_text, records))).encode(errors="backslashreplace")

    def end(self, said: dict[str, Any]) -> bytes:
        return b""

    def _heading(self, batch: Batch, records: Sequence[Record]) -> str:
        if not records or batch.number == self._number:
            return ""
        several = self._number > 0 or self._several
        self._number = batch.number
        return f"--- attempt {batch.number} ---\n" if several else ""


class JsonLines:
    """A JSON object a line. A blank before one, which JSON allows, says that the server is still there."""

    content_type = "application/x-ndjson"
    begin, beat = b"", b" "

    def piece(self, task_id: str, batch: Batch, records: Sequence[Record]) -> bytes:
        beside = b',"task_id":%s,"attempt":%d,"cursor":"%s:'
        beside %= encode(task_id), batch.number, batch.attempt.encode()
        return b"".join(b'%s%s%d"}\n' % (encode(record)[:-1], beside, record.n) for record in records)

    def end(self, said: dict[str, Any]) -> bytes:
        return encode(said) + b"\n" if said else b""


class Events:
    """A server-sent event a record, as browsers' EventSource takes them; its id is where to go on.

    :param after: where the log was gone on from.
    """

    content_type = "text/event-stream"
    begin, beat = b"retry: 1000\n\n", b": still here\n\n"

    def __init__(self, after: Cursor | None) -> None:
        self._places = {} if after is None else after.places
        self._lines = JsonLines()

    def piece(self, task_id: str, batch: Batch, records: Sequence[Record]) -> bytes:
        events = []
        for record in records:
            self._places.pop(batch.attempt, None)
            self._places[batch.attempt] = record.n
            line = self._lines.piece(task_id, batch, [record])
            events.append(b"id: %s\ndata: %s\n" % (self._id(), line))
        return b"".join(events)

    def end(self, said: dict[str, Any]) -> bytes:
        return b"event: end\ndata: %s\n\n" % encode(said)

    def _id(self) -> bytes:
        """The places in all attempts, that of the last record first."""
        return ",".join(f"{attempt}:{n}" for attempt, n in reversed(self._places.items())).encode()


def _text(record: Record) -> str:
    """A record as it stands in a text; that an attempt went well need not be said."""
    if isinstance(record, End) and record.state == "SUCCESS":
        return ""
    return record.text + ("" if isinstance(record, Line) and record.more else "\n")
