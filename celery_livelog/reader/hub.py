"""One Redis read for all tasks that somebody watches, however many watch.

A viewer is a place in the stream, not a queue: one that falls behind what the hub remembers reads on from its place by
itself, and never slows the others. Where many watch, the hub gathers what comes for a moment: each of them costs the
same whether it is given one record or some.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from celery_livelog.cancel import cancel
from celery_livelog.errors import complain
from celery_livelog.reader.channel import Channel
from celery_livelog.reader.ears import Ear, Ears
from celery_livelog.reader.pages import Pages
from celery_livelog.reader.portions import NOTHING, Entry, Portion
from celery_livelog.stores.stream import RedisError
from celery_livelog.stores.stream_reader import News, StreamReader

_READ = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: Seconds after which a viewer that waits is told that there is nothing new.
_QUIET_SECONDS = 2.0
#: Seconds for which entries are gathered: so many for each viewer, and at most.
_GATHER_EACH, _GATHER = 0.00005, 0.05


class Hub:
    """Follows the streams of tasks for any number of viewers of one event loop."""

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream
        #: What is already there.
        self.pages = Pages(stream)
        self._channels: dict[str, Channel] = {}
        self._ears = Ears()
        self._index: str | None = None
        self._loop: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[News] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def follow(self, task_id: str, entry_id: str) -> AsyncGenerator[Portion, None]:
        """Give what comes after an entry id, for ever; nothing now and then, so that the caller can look elsewhere."""
        channel = self._join(task_id, entry_id)
        try:
            while True:
                found = channel.after(entry_id)
                if found is None:
                    found = await _read_on(self.pages, task_id, entry_id)
                    entry_id = entry_id if found else channel.start  # what was between is gone
                elif not found and not await channel.news():
                    yield NOTHING
                for portion in found:
                    entry_id = portion.last
                    yield portion
        finally:
            self._leave(task_id, channel)

    @contextmanager
    def hearing(self, run_id: str) -> Iterator[Ear]:
        """Hear when attempts of a run begin or end."""
        began = not self._ears
        with self._ears.ear(run_id) as ear:
            if began:
                self._index = None
            self._read_anew(stop=began)
            yield ear

    async def close(self) -> None:
        """Stop reading."""
        await self.pages.close()
        await cancel(*(task for task in (self._loop, self._reading) if task is not None))
        if self._timer is not None:
            self._timer.cancel()

    def _join(self, task_id: str, entry_id: str) -> Channel:
        channel = self._channels.get(task_id)
        if channel is None:
            channel = self._channels[task_id] = Channel(entry_id)
            self._read_anew(stop=True)
        channel.viewers += 1
        return channel

    def _read_anew(self, *, stop: bool) -> None:
        """Read for one more; the read that is under way does not know of it, and is to `stop`."""
        if stop and self._reading is not None:
            self._reading.cancel()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
            self._tick_later()

    def _leave(self, task_id: str, channel: Channel) -> None:
        channel.viewers -= 1
        if not channel.viewers and self._channels.get(task_id) is channel:
            del self._channels[task_id]

    def _tick_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._tick)

    def _tick(self) -> None:
        for channel in self._channels.values():
            channel.tick()
        if self._channels or self._ears:
            self._tick_later()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while self._channels or self._ears:
            self._reading = asyncio.create_task(self._read())
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
            news = self._reading.result()
            self._index = news.index_id
            self._ears.tell(news.attempts)
            await _gather(self._tell(news.entries))

    async def _read(self) -> News:
        if self._ears and self._index is None:
            self._index = await self._stream.index_end()
        places = {task_id: channel.last for task_id, channel in self._channels.items()}
        return await self._stream.wait(places, _READ, self._index if self._ears else None)

    def _tell(self, news: dict[str, list[Entry]]) -> int:
        """Pass on what was read; give the number of viewers that it is for, or 0 when more waits to be read."""
        viewers, more = 0, False
        for task_id, entries in news.items():
            channel = self._channels.get(task_id)
            if entries and channel is not None:
                channel.add(entries)
                viewers += channel.viewers
                more = more or len(entries) == _READ
        return 0 if more else viewers


async def _gather(viewers: int) -> None:
    """Let more come before the next read, where many watch."""
    wait = min(viewers * _GATHER_EACH, _GATHER)
    if wait >= 0.001:
        await asyncio.sleep(wait)


async def _read_on(pages: Pages, task_id: str, entry_id: str) -> list[Portion]:
    while True:
        try:
            return await pages.after(task_id, entry_id)
        except RedisError as error:
            complain("Redis does not answer", error)
            await asyncio.sleep(_FIRST_PAUSE)
