"""Records as entries of a Redis Stream: the keys of their JSON, each a field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from celery_livelog.records import Line, Record, encode

_PLAIN = frozenset({"type", "timestamp", "stream", "line", "level", "logger", "name", "message", "error", "traceback"})
_PLAIN |= {"event", "reason", "state", "run_id", "account", "site", "started"}


def to_fields(record: Record, attempt: str) -> list[str | bytes | int]:
    """A record as the fields of a Redis Stream entry, names and values in turn.

    Every entry has `line`, `timestamp`, `stream`, `type`, `n` and `attempt`; text goes as it is, all else as JSON.
    """
    if type(record) is Line and not record.more and not record.piece:  # what is most common, made quickly
        fields: list[str | bytes | int] = [
            "line", record.line, "timestamp", record.timestamp, "stream", record.stream,
            "type", "log_line", "n", record.n, "attempt", attempt,
        ]  # fmt: skip
        for name, value in (("level", record.level), ("logger", record.logger), ("stage", record.stage)):
            if value is not None:
                fields += (name, value)
        if record.fields is not None:
            fields += ("fields", encode(record.fields))
        return fields
    own = msgspec.to_builtins(record)
    fields = []
    for name, value in {"line": record.text, "timestamp": "", "stream": "internal", **own, "attempt": attempt}.items():
        fields += (name, value if name in _PLAIN or name == "attempt" else msgspec.json.encode(value))
    return fields


def from_fields(fields: Mapping[str, str]) -> tuple[str, Record]:
    """The attempt and the record of a Redis Stream entry.

    :raises msgspec.ValidationError: when the entry is not one of ours.
    """
    attempt = fields.get("attempt", "")
    own: dict[str, Any] = {}
    for name, value in fields.items():
        own[name] = value if name in _PLAIN else msgspec.json.decode(value) if name != "attempt" else None
    return attempt, msgspec.convert(own, Record)
