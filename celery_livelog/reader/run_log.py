"""The log of a run while it goes on: the records of all its tasks in one, in order of time; tasks that start join it.

Whatever is read, the reader that was given reads it: so a viewer sees of a run what it may see of its tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from celery_livelog.attempts import Attempt
from celery_livelog.cancel import cancel
from celery_livelog.cursors import Cursor
from celery_livelog.reader import Reader
from celery_livelog.reader.merge import Batch
from celery_livelog.reader.run_tasks import RunTasks
from celery_livelog.reader.weave import Lane, Weave

#: Seconds that the records of other tasks wait for those of a task: while it runs, and when it has ended.
_LIVE_SECONDS, _ENDED_SECONDS = 0.25, 5.0


class RunLog:
    """The log of one run, read once.

    :param after: the places behind which its attempts go on; of attempts that it does not name all is read.
    :param action: as for the log of a task.
    """

    def __init__(self, reader: Reader, run_id: str, after: Cursor | None = None, *, action: str | None = None) -> None:
        self._reader = reader
        self._action = action
        self._run = RunTasks(reader.runs, run_id)
        self._after = after
        self._weave = Weave()
        self._news = asyncio.Event()
        self._room: dict[str, asyncio.Event] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._waiting: list[tuple[str, str, Sequence[Attempt]]] = []

    @property
    def state(self) -> str:
        """How the run stands; at its end, how it ended."""
        return self._run.state

    def task(self, task_id: str) -> Attempt:
        """The first attempt of a task of which there was something."""
        return self._run.first[task_id]

    async def batches(self) -> AsyncGenerator[tuple[str, Batch], None]:
        """Give what there is and what comes until the run is over, each batch with the id of its task."""
        looking = asyncio.create_task(self._look())
        try:
            while True:
                self._news.clear()
                self._open_due()
                for task_id, batch in self._weave.take(self._now()):
                    yield task_id, batch
                self._go_on()
                if looking.done():
                    looking.result()
                    if not (self._waiting or self._reading):
                        return
                    self._leave_silent()
                await self._wait()
        finally:
            await cancel(looking, *self._reading.values())

    async def _look(self) -> None:
        """See which tasks there are, until the run is over."""
        async with aclosing(self._run.joining()) as joining:
            async for tasks in joining:
                self._waiting += [(of_task[0].started, of_task[0].task_id, of_task) for of_task in tasks]
                self._waiting.sort(key=lambda waiting: waiting[:2])
                self._news.set()
        self._news.set()

    def _open_due(self) -> None:
        """Begin to read the tasks that had begun by the time that is read now."""
        while self._waiting:
            started, task_id, attempts = self._waiting[0]
            first = self._weave.first
            if self._weave.lanes and (first is None or started > first) and not attempts[-1].running:
                return
            del self._waiting[0]
            patience = _LIVE_SECONDS if attempts[-1].running else _ENDED_SECONDS
            lane = self._weave.open(task_id, patience, self._now())
            self._room[task_id] = asyncio.Event()
            self._reading[task_id] = asyncio.create_task(self._read(lane, self._place(attempts)))

    def _place(self, attempts: Sequence[Attempt]) -> Cursor | None:
        """Where a task goes on, of whose attempts some are named."""
        named = {} if self._after is None else self._after.places
        places = [Cursor(known.attempt, named[known.attempt]) for known in attempts if known.attempt in named]
        return Cursor(places[0].attempt, places[0].n, tuple(places[1:])) if places else None

    async def _read(self, lane: Lane, after: Cursor | None) -> None:
        try:
            log = self._reader.log(lane.name, after=after, follow=True, action=self._action)
            async with aclosing(log) as batches:
                async for batch in batches:
                    self._room[lane.name].clear()
                    self._weave.put(lane, batch, self._now())
                    self._news.set()
                    await self._room[lane.name].wait()
        finally:
            self._weave.end(lane)
            self._news.set()

    def _go_on(self) -> None:
        """Let those read on of whom all was given; end with what one of them has ended with."""
        for task_id, reading in [*self._reading.items()]:
            if not reading.done():
                if not self._weave.lanes[task_id].pending:
                    self._room[task_id].set()
            elif task_id not in self._weave.lanes:
                del self._reading[task_id], self._room[task_id]
                if not reading.cancelled():
                    reading.result()

    def _leave_silent(self) -> None:
        """Now that the run is over: wait no longer for tasks of which nothing comes."""
        for task_id, lane in self._weave.lanes.items():
            if lane.open and not lane.pending and self._now() - lane.since > _ENDED_SECONDS:
                self._reading[task_id].cancel()

    async def _wait(self) -> None:
        due = self._weave.due
        patience = _ENDED_SECONDS if due is None else max(due - self._now(), 0.0)
        try:
            await asyncio.wait_for(self._news.wait(), patience)
        except asyncio.TimeoutError:
            pass

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
