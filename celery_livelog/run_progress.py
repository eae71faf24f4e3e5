"""The lines of a run's ``stages/progress.jsonl``: what a stage says of itself, as one JSON object. Pure."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from celery_livelog.records import End, StageComplete, StageError, StageProgress, StageStart

Event = StageStart | StageProgress | StageComplete | StageError

_encode = msgspec.json.Encoder().encode


def of_event(record: Event, task_id: str, zone: ZoneInfo) -> bytes:
    """The line of an event: the stage's name, a status for programs, a message for people, the time, and numbers."""
    return _line(record.stage, record.name, _status(record), record.timestamp, task_id, zone)


def of_interruption(stage: int, name: str, end: End, task_id: str, zone: ZoneInfo) -> bytes:
    """The line of a stage that was open when its attempt ended."""
    return _line(stage, name, {"status": "interrupted", "message": why(end)}, end.timestamp, task_id, zone)


def why(end: End) -> str:
    """What is said of a stage that an attempt leaves open when it ends."""
    return f"interrupted: {end.reason or end.state}"


@lru_cache(maxsize=64)
def in_zone(timestamp: str, zone: ZoneInfo) -> datetime:
    """An ISO 8601 time as people read it."""
    try:
        return datetime.fromisoformat(timestamp).astimezone(zone)
    except (ValueError, OverflowError):  # when a run began, in a message that others have made
        return datetime.fromtimestamp(0, zone)


def _line(number: int, name: str, status: dict[str, Any], timestamp: str, task_id: str, zone: ZoneInfo) -> bytes:
    at = in_zone(timestamp, zone).isoformat()
    return _encode({"stage": name, **status, "timestamp": at, "number": number, "task_id": task_id})


def _status(record: Event) -> dict[str, Any]:
    message = record.text.removeprefix(f"Stage {record.stage}: {record.name}").lstrip(": ")
    if isinstance(record, StageStart):
        return {"status": "running", "message": f"started {message}".rstrip(), "total": record.pending}
    if isinstance(record, StageProgress):
        return {"status": "running", "message": message, "done": record.done, "total": record.total}
    more = {"processed": record.processed, "elapsed": record.elapsed}
    if isinstance(record, StageError):
        return {"status": "error", "message": message, **more}
    return {"status": "complete", "message": message, **more, "result": record.result}
