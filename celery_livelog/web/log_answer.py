"""A task's log as the body of an HTTP answer: batches from the reader in, bytes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from celery_livelog.attempts import Attempt
from celery_livelog.reader import Batch, Reader
from celery_livelog.records import Cursor, End, Gap, Line, Record, encode
from celery_livelog.web.log_query import LogQuery

#: How long a long-poll, once it has something, waits for what comes with it: one frame on a screen.
_TOGETHER = 0.05
#: Records that one long-poll gives at most; the next one goes on from there.
_POLL_RECORDS = 5000


async def body(reader: Reader, task_id: str, query: LogQuery, known: list[Attempt]) -> AsyncIterator[bytes]:
    """Give the log piece by piece: all there is now, or with `query.follow` all there will be.

    :param known: the task's attempts, where `query.lines` needs one by its id.
    """
    async with aclosing(_batches(reader, task_id, query, known)) as batches:
        async for batch in batches:
            piece = _piece(batch, task_id, query)
            if piece:
                yield piece
            if query.lines and batch.records and batch.records[-1].n >= query.lines[1]:
                return


async def news(reader: Reader, task_id: str, query: LogQuery) -> tuple[bytes, bool]:
    """Wait up to `query.wait` seconds for something new; give what came, and whether the log has ended."""
    pieces: list[bytes] = []
    records = 0
    deadline = time.monotonic() + query.wait
    async with aclosing(_batches(reader, task_id, replace(query, follow=True), [])) as batches:
        while records < _POLL_RECORDS:
            patience = _TOGETHER if pieces else deadline - time.monotonic()
            try:
                batch = await asyncio.wait_for(anext(batches), max(patience, 0))
            except StopAsyncIteration:
                return b"".join(pieces), True
            except asyncio.TimeoutError:
                break
            records += len(batch.records)
            piece = _piece(batch, task_id, query)
            if piece:
                pieces.append(piece)
    return b"".join(pieces), False


def _batches(reader: Reader, task_id: str, query: LogQuery, known: list[Attempt]) -> AsyncGenerator[Batch, None]:
    after, attempt = query.after, query.attempt
    if query.lines:
        attempt = attempt or len(known)
        after = Cursor(known[attempt - 1].attempt, query.lines[0] - 1)
    return reader.log(task_id, after=after, tail=query.tail, attempt=attempt, follow=query.follow)


def _piece(batch: Batch, task_id: str, query: LogQuery) -> bytes:
    records = [record for record in batch.records if query.matches(record)]
    if query.lines:
        records = [record for record in records if _overlaps(record, *query.lines)]
    if query.format == "text":
        return "".join(map(_text, records)).encode(errors="backslashreplace")
    tail = b',"task_id":%s,"attempt":%d,"cursor":"%s:' % (encode(task_id), batch.number, batch.attempt.encode())
    return b"".join(b'%s%s%d"}\n' % (encode(record)[:-1], tail, record.n) for record in records)


def _overlaps(record: Record, first: int, last: int) -> bool:
    begin = record.first if isinstance(record, Gap) else record.n
    return begin <= last and record.n >= first


def _text(record: Record) -> str:
    """A record as it stands in a text: what a task that went well printed is all there is of it."""
    if isinstance(record, End) and record.state == "SUCCESS":
        return ""
    return record.text + ("" if isinstance(record, Line) and record.more else "\n")
