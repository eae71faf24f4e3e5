"""A task's log as the body of an HTTP answer: batches from the reader in, bytes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby

from celery_livelog.attempts import Attempt
from celery_livelog.cancel import cancel
from celery_livelog.cursors import Cursor
from celery_livelog.reader import Batch, Reader
from celery_livelog.selection import Tail
from celery_livelog.web.log_formats import Events, JsonLines, LogFormat, Text
from celery_livelog.web.log_query import LogQuery
from celery_livelog.web.pulse import kept_alive

#: How long a long-poll, once it has something, waits for what comes with it: one frame on a screen.
_TOGETHER = 0.05
#: Records that one long-poll gives at most; the next one goes on from there.
_POLL_RECORDS = 5000
#: Records that a `tail` with conditions gives at most: the last ones are only known, and so kept, when all were read.
_MOST_KEPT = 10_000


class Answer:
    """The answer to one query.

    :param known: the task's attempts, in order of start.
    """

    def __init__(self, reader: Reader, task_id: str, query: LogQuery, known: Sequence[Attempt]) -> None:
        self._reader = reader
        self._task_id = task_id
        self._query = query
        self._known = known
        #: How it is written.
        self.form = form_of(query, several=len(known) > 1 and query.attempt is None)

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give the log piece by piece: all there is now, or with `follow` all there will be."""
        pieces = self._pieces()
        return kept_alive(pieces, self.form.beat) if self._query.follow and self.form.beat else pieces

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        query = self._query
        if self.form.begin:
            yield self.form.begin
        if query.tail is not None and not query.selection.everything:
            tail, place = await self._tail(min(query.tail, _MOST_KEPT))
            for batch in tail:
                yield self._piece(batch)
            if not query.follow:
                return
            query = replace(query, tail=None, after=place)
        async with aclosing(self._batches(query)) as batches:
            async for batch in batches:
                piece = self._piece(batch)
                if piece:
                    yield piece
                if query.lines and batch.records and batch.records[-1].n >= query.lines[1]:
                    return
        end = self.form.end({}) if query.follow else b""
        if end:
            yield end

    async def news(self) -> tuple[bytes, bool]:
        """Wait up to `wait` seconds for something new; give what came, and whether the log has ended."""
        pieces: list[bytes] = []
        records = 0
        deadline = time.monotonic() + self._query.wait
        async with aclosing(self._batches(replace(self._query, follow=True))) as batches:
            while records < _POLL_RECORDS:
                try:
                    batch = await _next(batches, _TOGETHER if pieces else deadline - time.monotonic())
                except StopAsyncIteration:
                    return b"".join(pieces), True
                if batch is None:
                    break
                records += len(batch.records)
                piece = self._piece(batch)
                if piece:
                    pieces.append(piece)
        return b"".join(pieces), False

    async def _tail(self, count: int) -> tuple[list[Batch], Cursor | None]:
        """The last records of what is there now, and the place behind all of it."""
        tail, place, attempts = Tail(count), self._query.after, {}
        async with aclosing(self._batches(replace(self._query, tail=None, follow=False))) as batches:
            async for batch in batches:
                attempts[batch.number] = batch.attempt
                for record in batch.records:
                    if self._query.takes(batch.number, record):
                        tail.feed(batch.number, record)
                    place = Cursor(batch.attempt, record.n)
        grouped = groupby(tail.records, key=lambda numbered: numbered[0])
        return [Batch(attempts[number], number, [record for _, record in group]) for number, group in grouped], place

    def _batches(self, query: LogQuery) -> AsyncGenerator[Batch, None]:
        after, attempt = query.after, query.attempt
        if query.lines:
            attempt = attempt or len(self._known)
            after = Cursor(self._known[attempt - 1].attempt, query.lines[0] - 1)
        return self._reader.log(
            self._task_id, after=after, tail=query.tail, attempt=attempt, follow=query.follow, action=query.action
        )

    def _piece(self, batch: Batch) -> bytes:
        records = [record for record in batch.records if self._query.takes(batch.number, record)]
        return self.form.piece(self._task_id, batch, records)


def form_of(query: LogQuery, *, several: bool = False) -> LogFormat:
    """How what is asked for is written."""
    if query.format == "text":
        return Text(several=several)
    return JsonLines() if query.format == "ndjson" else Events(query.after)


async def _next(batches: AsyncGenerator[Batch, None], patience: float) -> Batch | None:
    """The next batch, or None when none has come after `patience` seconds; then `batches` is over."""
    step = asyncio.ensure_future(anext(batches))
    try:
        await asyncio.wait({step}, timeout=max(patience, 0))
        return step.result() if step.done() else None
    finally:
        await cancel(step)
