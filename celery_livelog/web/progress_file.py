"""A run's ``progress.jsonl`` made of the logs of its tasks: the lines that its directory has, in order of time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from zoneinfo import ZoneInfo

from celery_livelog.reader import Reader
from celery_livelog.reader.merge import Batch
from celery_livelog.records import End, StageComplete, StageError, StageProgress, StageStart
from celery_livelog.run_progress import of_event, of_interruption
from celery_livelog.runs import Stage
from celery_livelog.settings import Settings
from celery_livelog.web.answers import Refusal, Whole, file_name

_EVENTS = (StageStart, StageProgress, StageComplete, StageError)

#: The stages of a run, by attempt and number: a task may have stages of other runs, too.
_Stages = dict[tuple[str, int], Stage]


async def answer(reader: Reader, settings: Settings, run_id: str) -> Whole:
    """The file.

    :raises Refusal: 404 alike for a run that is unknown and one that may not be seen.
    """
    run = await reader.runs.get(run_id)
    if run is None:
        raise Refusal(404, "not found")
    of_run = await reader.runs.within(run.account, run.site).stages(run_id)  # another account may have one with this id
    stages = {(stage.attempt, stage.stage): stage for stage in of_run}
    lines = [line async for line in _lines(reader, stages, ZoneInfo(settings.timezone))]
    lines.sort(key=lambda timed: timed[0])  # stable: of one task all is in order already
    headers = {"Content-Disposition": f'attachment; filename="{file_name(run_id)}-progress.jsonl"'}
    return Whole("application/x-ndjson", b"".join(line + b"\n" for _, line in lines), headers)


async def _lines(reader: Reader, stages: _Stages, zone: ZoneInfo) -> AsyncIterator[tuple[str, bytes]]:
    for task_id in dict.fromkeys(stage.task_id for stage in stages.values()):
        async with aclosing(reader.log(task_id)) as batches:
            async for batch in batches:
                for line in _of_batch(batch, task_id, stages, zone):
                    yield line


def _of_batch(batch: Batch, task_id: str, stages: _Stages, zone: ZoneInfo) -> Iterator[tuple[str, bytes]]:
    for record in batch.records:
        if isinstance(record, _EVENTS):
            if (batch.attempt, record.stage) in stages:
                yield record.timestamp, of_event(record, task_id, zone)
        elif isinstance(record, End):
            for (attempt, number), stage in sorted(stages.items(), reverse=True):  # the innermost first
                if attempt == batch.attempt and stage.state == "interrupted":
                    yield record.timestamp, of_interruption(number, stage.name, record, task_id, zone)
