"""The log of a run as the body of an HTTP answer, while it goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from celery_livelog.reader import Reader
from celery_livelog.reader.run_log import RunLog
from celery_livelog.web.log_formats import LogFormat
from celery_livelog.web.log_query import LogQuery
from celery_livelog.web.pulse import kept_alive


def followed_run(reader: Reader, run_id: str, query: LogQuery, form: LogFormat) -> AsyncGenerator[bytes, None]:
    """All that the tasks of a run have printed and print, until the run is over."""
    return kept_alive(_pieces(reader, run_id, query, form), form.beat)


async def _pieces(reader: Reader, run_id: str, query: LogQuery, form: LogFormat) -> AsyncGenerator[bytes, None]:
    if form.begin:
        yield form.begin
    queries: dict[str, LogQuery] = {}  # each task has stages of its own
    log = RunLog(reader, run_id, query.after, action=query.action)
    async with aclosing(log.batches()) as batches:
        async for task_id, batch in batches:
            of_task = queries.setdefault(task_id, replace(query, selection=replace(query.selection, _stages=set())))
            piece = form.piece(task_id, batch, [r for r in batch.records if of_task.takes(batch.number, r)])
            if piece:
                yield piece
    yield form.end({"type": "run_over", "run_id": run_id, "state": log.state})
