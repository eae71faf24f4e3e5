"""One Redis read for all tasks that somebody watches, however many watch.

A viewer is a place in the stream, not a queue: one that falls behind what the hub remembers reads on from its place by
itself, and never slows the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from itertools import takewhile

from celery_livelog.cancel import cancel
from celery_livelog.errors import complain
from celery_livelog.records import Record
from celery_livelog.stores.stream import RedisError
from celery_livelog.stores.stream_reader import StreamReader

Entry = tuple[str, str, Record]

#: Entries of a task that the hub remembers for its viewers.
_REMEMBERED = 2000
_READ = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: Seconds after which a viewer that waits is told that there is nothing new.
_QUIET_SECONDS = 2.0


class _Channel:
    """What the hub remembers of a task: all entries after `start`, up to `last`."""

    def __init__(self, entry_id: str) -> None:
        self.start = self.last = entry_id
        self.viewers = 0
        self._entries: deque[Entry] = deque()
        self._news = asyncio.Event()

    def add(self, entries: list[Entry]) -> None:
        """Remember new entries and wake the viewers."""
        self._entries.extend(entries)
        self.last = entries[-1][0]
        while len(self._entries) > _REMEMBERED:
            self.start = self._entries.popleft()[0]
        self._news.set()
        self._news = asyncio.Event()

    def after(self, entry_id: str) -> list[Entry] | None:
        """The entries after an id; None when they are not all remembered."""
        if _order(entry_id) < _order(self.start):
            return None
        place = _order(entry_id)
        newer = takewhile(lambda entry: _order(entry[0]) > place, reversed(self._entries))
        return list(newer)[::-1]

    async def news(self) -> None:
        """Wait for new entries, `_QUIET_SECONDS` at most."""
        try:
            await asyncio.wait_for(self._news.wait(), _QUIET_SECONDS)
        except asyncio.TimeoutError:
            pass


class Hub:
    """Follows the streams of tasks for any number of viewers of one event loop."""

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream
        self._channels: dict[str, _Channel] = {}
        self._loop: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[dict[str, list[Entry]]] | None = None

    async def follow(self, task_id: str, entry_id: str) -> AsyncIterator[list[Entry]]:
        """Give what comes after an entry id, for ever; nothing now and then, so that the caller can look elsewhere."""
        channel = self._join(task_id, entry_id)
        try:
            while True:
                entries = channel.after(entry_id)
                if entries is None:
                    entries = await self._read_on(task_id, entry_id)
                if entries:
                    entry_id = entries[-1][0]
                    yield entries
                else:
                    await channel.news()
                    yield []
        finally:
            self._leave(task_id, channel)

    async def close(self) -> None:
        """Stop reading."""
        await cancel(*(task for task in (self._loop, self._reading) if task is not None))

    def _join(self, task_id: str, entry_id: str) -> _Channel:
        channel = self._channels.get(task_id)
        if channel is None:
            channel = self._channels[task_id] = _Channel(entry_id)
            if self._reading is not None:
                self._reading.cancel()  # to read on with one more task
        channel.viewers += 1
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        return channel

    def _leave(self, task_id: str, channel: _Channel) -> None:
        channel.viewers -= 1
        if not channel.viewers and self._channels.get(task_id) is channel:
            del self._channels[task_id]

    async def _read_on(self, task_id: str, entry_id: str) -> list[Entry]:
        try:
            return await self._stream.after(task_id, entry_id, _READ)
        except RedisError as error:
            complain("Redis does not answer", error)
            await asyncio.sleep(_FIRST_PAUSE)
            return []

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while self._channels:
            places = {task_id: channel.last for task_id, channel in self._channels.items()}
            self._reading = asyncio.create_task(self._stream.wait(places, _READ))
            await asyncio.wait([self._reading])
            if self._reading.cancelled():
                continue
            error = self._reading.exception()
            if error is not None:
                complain("Redis does not answer", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            for task_id, entries in self._reading.result().items():
                if entries and task_id in self._channels:
                    self._channels[task_id].add(entries)


def _order(entry_id: str) -> tuple[int, int]:
    """A Redis entry id as numbers that compare."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds or 0), int(sequence or 0)
