"""A run's `progress.jsonl`, as the run directory has it, made of the records of its tasks."""

from __future__ import annotations

import msgspec

from celery_livelog.reader import Reader
from celery_livelog.records import StageComplete, StageError, StageProgress, StageStart
from celery_livelog.settings import Settings
from celery_livelog.web.answers import Refusal, Whole, file_name


async def answer(reader: Reader, settings: Settings, run_id: str) -> Whole:
    """The file.

    :raises Refusal: 404 alike for a run that is unknown and one that may not be seen.
    """
    if await reader.runs.get(run_id) is None:
        raise Refusal(404, "not found")
    lines: list[tuple[str, bytes]] = []
    for attempt in await reader.runs.attempts(run_id):
        async for batch in reader.log(attempt.task_id):
            for record in batch.records:
                if batch.attempt == attempt.attempt and isinstance(
                    record, (StageStart, StageProgress, StageComplete, StageError)
                ):
                    status = "running"
                    line = {"stage": record.name, "status": status, "message": record.text}
                    lines.append((record.timestamp, msgspec.json.encode(line)))
    lines.sort()
    headers = {"Content-Disposition": f'attachment; filename="{file_name(run_id)}-progress.jsonl"'}
    return Whole("application/x-ndjson", b"".join(line + b"\n" for _, line in lines), headers)
