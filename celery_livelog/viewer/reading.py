"""What one subscription reads: a task's log or a run's, message by message, for as long as the viewer takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from celery_livelog.cursors import Cursor
from celery_livelog.reader import Reader
from celery_livelog.reader.run_log import RunLog
from celery_livelog.viewer.flow import Flow
from celery_livelog.viewer.messages import Command, Message, messages, run_over


class Subscription:
    """One log on its way to one viewer.

    A viewer that takes nothing for a while is left with the message that is on its way: what it reads from is let go
    of, and it begins anew behind that message.
    """

    def __init__(self, reader: Reader, command: Command, flow: Flow) -> None:
        self._reader = reader
        self._command = command
        self._flow = flow
        self._places: dict[str, int] = {} if command.place is None else command.place.places
        self._log: AsyncGenerator[Message, None] | None = None
        self._sending: Message | None = None
        self._released: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Deliver the log to its end."""
        while True:
            async with aclosing(self._messages()) as self._log:
                async for message in self._log:
                    self._sending = message
                    await self._flow.deliver(message)
                    self._sending = None
                    if message.n:
                        self._places[message.attempt] = message.n
                    if self._released is not None:
                        await self._released
                        break
            if self._released is None:
                return
            self._released = None

    def release(self) -> None:
        """Let go of what is read, if it can be gone on with behind the message that is on its way."""
        sending = self._sending
        resumable = sending is not None and sending.n and not sending.more
        if resumable and self._log is not None and self._released is None:
            self._released = asyncio.create_task(self._log.aclose())

    def _messages(self) -> AsyncGenerator[Message, None]:
        return self._of_run() if self._command.run_id else self._of_task()

    @property
    def _place(self) -> Cursor | None:
        places = [Cursor(attempt, n) for attempt, n in self._places.items()]
        return Cursor(places[-1].attempt, places[-1].n, tuple(places[:-1])) if places else None

    async def _of_task(self) -> AsyncGenerator[Message, None]:
        place = self._place
        tail = self._command.tail if place is None else None
        log = self._reader.log(self._command.task_id, after=place, tail=tail, follow=True)
        async with aclosing(log) as batches:
            async for batch in batches:
                for message in messages(batch):
                    yield message

    async def _of_run(self) -> AsyncGenerator[Message, None]:
        log = RunLog(self._reader, self._command.run_id, self._place)
        async with aclosing(log.batches()) as batches:
            async for task_id, batch in batches:
                for message in messages(batch, task_id):
                    yield message
        yield run_over(self._command.run_id, log.state)
