"""The key-values of logged events, apart from their message: those of structlog, and ``extra=`` of `logging`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from celery_livelog.errors import said
from celery_livelog.events import encoded, shown

_RECORD = logging.makeLogRecord({}).__dict__
#: What formatters leave in a record, Celery's own too, is no field.
_NO_FIELDS = _RECORD.keys() | {"message", "asctime", "taskName", "task_id", "task_name"}
#: What a log record has a place for: the message, level, logger and time are that of the line.
_OWN_PLACE = frozenset({"event", "level", "logger", "timestamp", "exc_info", "_record", "_from_structlog"})
#: Parts of an event that are text of several lines.
_LINES = ("exception", "stack")
#: Their text is short, and making it runs nobody's code.
_TEXTUAL = (date, time, timedelta, UUID, Decimal, PurePath, Enum)
_DEEPEST = 5
#: Bytes of all key-values of an event together; see `events.encoded`.
_LARGEST = 64 * 1024
_FORMATTER = logging.Formatter()


class Rendered(str):
    """An event of structlog as text, on its way through `logging` to consoles, with what it was made of."""

    __slots__ = ("fields", "message")

    def __new__(cls, text: str, message: str, fields: dict[str, Any]) -> Rendered:
        rendered = super().__new__(cls, text)
        rendered.message, rendered.fields = message, fields
        return rendered

    message: str
    fields: dict[str, Any]


def as_json(fields: dict[str, Any]) -> bytes:
    """Key-values for `AttemptWriter.log`."""
    return encoded(fields, _LARGEST) if fields else b""


def of_structlog(event: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The message of an event of structlog, with its traceback, and its key-values."""
    fields = {key: value for key, value in event.items() if key not in _OWN_PLACE}
    message = shown(event.get("event", ""))
    lines = [fields.pop(name) for name in _LINES if isinstance(fields.get(name), str)]
    if "exception" not in event and (trace := _traceback(event.get("exc_info"))):
        lines.insert(0, trace)
    return "\n".join([message, *lines]), fields


def of_record(record: logging.LogRecord) -> dict[str, Any]:
    """What a log record was given as ``extra``. Objects that would have to be asked for their text show their type."""
    given = record.__dict__
    if len(given) == len(_RECORD):  # what is most common
        return {}
    return {key: _harmless(given[key]) for key in list(given) if key not in _NO_FIELDS and key[:1] != "_"}


def _traceback(given: Any) -> str:
    found = given if isinstance(given, (BaseException, tuple)) else sys.exc_info() if given else None
    if isinstance(found, BaseException):
        found = type(found), found, found.__traceback__
    return _FORMATTER.formatException(found) if found and found[0] is not None else ""


def _harmless(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, _TEXTUAL):
        return str(value)
    if isinstance(value, BaseException):
        return said(value)
    if type(value) is dict and depth < _DEEPEST:
        return {
            str(key) if isinstance(key, (str, int)) else _type(key): _harmless(value[key], depth + 1) for key in value
        }
    if type(value) in (list, tuple, set, frozenset) and depth < _DEEPEST:
        return [_harmless(item, depth + 1) for item in value]
    return _type(value)


def _type(value: Any) -> str:
    return f"<{type(value).__name__}>"
