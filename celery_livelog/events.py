"""Events of a task's own code, as JSON that any reader takes, whatever values they are made of."""

from __future__ import annotations

import json
import operator
import re
from typing import Any

from celery_livelog.interrupts import is_interrupt
from celery_livelog.writer import AttemptWriter

#: Characters of an event; beyond that, only the first of each text, result and data are kept.
_EVENT_CHARACTERS = 1024 * 1024
_SHOWN_OF_LARGE = 10_000
_COUNT_LIMIT = 1 << 63


def write(writer: AttemptWriter | None, event: dict[str, Any]) -> None:
    """Leave an event in an attempt's log; nothing outside of an attempt, or after its end."""
    if writer is not None and not writer.ended:
        writer.event(_encoded(event))


def _encoded(event: dict[str, Any]) -> bytes:
    """An event as JSON that any reader takes; what JSON cannot hold is shown as text."""
    try:
        text = json.dumps(event, default=_plain, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        if is_interrupt(error):
            raise
        text = ""  # odd keys, NaN, circles
    if not text or len(text) > _EVENT_CHARACTERS:
        text = json.dumps({key: _simple(value) for key, value in event.items()}, ensure_ascii=False)
    return _SURROGATES.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text).encode()


def _plain(value: Any) -> int | str:
    """A value that JSON does not know: as a number if it is a whole one, of another library, else as text."""
    try:
        return operator.index(value)
    except Exception as error:
        if is_interrupt(error):
            raise
        return shown(value)  # it was the value's own code


def _simple(value: Any) -> int | float | str | None:
    if value is None or (isinstance(value, (int, float)) and abs(value) < _COUNT_LIMIT):
        return value
    return shown(value)[:_SHOWN_OF_LARGE]


def shown(value: Any) -> str:
    """A value as text."""
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception as error:
        if is_interrupt(error):
            raise
        return f"<{type(value).__name__}>"  # it was the value's own code


_SURROGATES = re.compile("[\ud800-\udfff]")
