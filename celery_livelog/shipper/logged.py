"""What a LOG frame says. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from celery_livelog.frames import FIELDS_FOLLOW
from celery_livelog.lines import LineSplitter


class Logged(NamedTuple):
    """A logged message; `fields` are its key-values, if it has some."""

    level: str
    logger: str
    lines: list[tuple[str, bool]]
    bytes: int
    fields: dict[str, Any] | None


def read(payload: bytes) -> Logged:
    """Take the payload of a frame apart."""
    level, logger, message = payload.split(b"\0", 2)
    name, _, data = logger.partition(FIELDS_FOLLOW)
    fields: dict[str, Any] | None = None
    if data:
        try:
            fields = msgspec.json.decode(data, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            name = logger  # of somebody who names loggers like that
    lines = LineSplitter().feed(message if message.endswith(b"\n") else message + b"\n")
    return Logged(_text(level), _text(name), lines, len(message) + 1, fields)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
