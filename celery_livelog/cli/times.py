"""Times and durations as people write and read them. Pure: the present is passed in."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TERM = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_DURATION = re.compile(rf"(?:{_TERM.pattern})+")


def parse_duration(text: str) -> timedelta:
    """Read a duration such as ``90s``, ``5m`` or ``1h30m``.

    :raises ValueError: when `text` is no such duration.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration such as 90s, 5m or 1h30m")
    return timedelta(seconds=sum(float(term[1]) * _UNITS[term[2]] for term in _TERM.finditer(text)))


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time; one that names no zone is local.

    :raises ValueError: when `text` is no such time.
    """
    utc_named = f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text  # Python 3.10 does not know the Z
    return datetime.fromisoformat(utc_named).astimezone(timezone.utc)


def parse_since(text: str, now: datetime) -> datetime:
    """Read what ``--since`` takes: a duration before `now`, or an ISO 8601 time.

    :raises ValueError: when `text` is neither.
    """
    try:
        return now - parse_duration(text) if _DURATION.fullmatch(text) else parse_time(text)
    except (ValueError, OverflowError):
        expected = f"a duration such as 5m or 1h30m, or a time such as {now:%Y-%m-%dT%H:%M}"
        raise ValueError(f"{text!r} is not {expected}") from None


def local_time(timestamp: str, timespec: str = "microseconds") -> str:
    """An ISO 8601 time in the zone of whoever reads it."""
    return parse_time(timestamp).astimezone().isoformat(timespec=timespec)


def short_duration(seconds: float) -> str:
    """A duration in its two largest units: ``0.42s``, ``12.3s``, ``4m05s``, ``2h10m``, ``3d04h``."""
    if seconds < 10:
        return f"{seconds:.2f}s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    return f"{hours}h{minute:02}m" if hours else f"{minutes}m{second:02}s"


def ago(then: datetime, now: datetime) -> str:
    """How long before `now` something was, in its largest unit: ``12s ago``, ``3h ago``."""
    seconds = max(0, int((now - then).total_seconds()))
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS[unit]:
            return f"{seconds // int(_UNITS[unit])}{unit} ago"
    return f"{seconds}s ago"
