"""Events of a task's own code, as JSON that any reader takes, whatever values they are made of."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable
from typing import Any

import msgspec

from celery_livelog.interrupts import is_interrupt
from celery_livelog.writer import AttemptWriter

#: Bytes of an event; beyond that, only the first characters of each text, result and data are kept.
_EVENT_CHARACTERS = 1024 * 1024
_SHOWN_OF_LARGE = 10_000
_COUNT_LIMIT = 1 << 63
#: Values in values in values: deeper ones are shown as text.
_DEEPEST = 100
#: What `msgspec` writes as the `json` module would, in a tenth of the time; but NaN and infinity become null.
_PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})


def write(writer: AttemptWriter | None, event: dict[str, Any]) -> None:
    """Leave an event in an attempt's log; nothing outside of an attempt, or after its end."""
    if writer is None or writer.ended:
        return
    try:
        writer.event(encoded(event))
    except Exception as error:
        if is_interrupt(error):
            raise
        writer.lost += 1  # ours: without us there was room


def encoded(event: dict[str, Any], limit: int = _EVENT_CHARACTERS) -> bytes:
    """An event as JSON that any reader takes; what JSON cannot hold is shown as text.

    :param limit: bytes; beyond that, only the first characters of each value are kept.
    """
    try:
        if _PLAIN_TYPES.issuperset(map(type, event.values())) and type(event.get("result")) is not float:
            data = _encode(event)
        else:
            data = _SURROGATES.sub(_escaped, _json(event)).encode()
    except Exception as error:
        if is_interrupt(error):
            raise  # else it was a value's own code, or none of JSON's values
        data = _SURROGATES.sub(_escaped, _json({shown(key): _known(value) for key, value in event.items()})).encode()
    if len(data) > limit:
        simple = {shown(key)[:_SHOWN_OF_LARGE]: _simple(value) for key, value in event.items()}
        data = _SURROGATES.sub(_escaped, _json(simple)).encode()
    return data


def count(value: Any) -> int | None:
    """A count as a whole number that any reader takes; None for what is none."""
    try:
        number = operator.index(value) if not isinstance(value, float) else int(value)
    except Exception as error:
        if is_interrupt(error):
            raise
        return None  # NaN, or the value's own code
    return max(-_COUNT_LIMIT, min(number, _COUNT_LIMIT - 1))


def shown(value: Any) -> str:
    """A value as text."""
    try:
        return value if type(value) is str else str.__str__(value) if isinstance(value, str) else repr(value)
    except Exception as error:
        if is_interrupt(error):
            raise
        return f"<{type(value).__name__}>"  # it was the value's own code


def _plain(value: Any) -> int | str:
    """A value that JSON does not know: as a number if it is a whole one, of another library, else as text."""
    try:
        return operator.index(value)
    except Exception as error:
        if is_interrupt(error):
            raise
        return shown(value)  # it was the value's own code


def _known(value: Any, depth: int = 0) -> Any:
    """A value with all that JSON cannot hold, such as odd keys, NaN and circles, as text in its place."""
    if isinstance(value, float) and not math.isfinite(value):
        return shown(value)
    if depth < _DEEPEST and isinstance(value, dict):
        return {
            key if isinstance(key, (str, int)) else shown(key): _known(item, depth + 1)
            for key, item in [*dict.items(value)]  # not its own way to tell them, which may be what has failed
        }
    if depth < _DEEPEST and isinstance(value, (list, tuple)):
        items = list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)
        return [_known(item, depth + 1) for item in [*items]]
    return value if value is None or isinstance(value, (str, int, float)) else _plain(value)


def _simple(value: Any) -> int | float | str | None:
    if value is None or (isinstance(value, (int, float)) and abs(value) < _COUNT_LIMIT):
        return value
    return shown(value)[:_SHOWN_OF_LARGE]


def _escaped(found: re.Match[str]) -> str:
    return f"\\\\u{ord(found[0]):04x}"


_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
_json = json.JSONEncoder(default=_plain, allow_nan=False, ensure_ascii=False).encode
_SURROGATES = re.compile("[\ud800-\udfff]")
