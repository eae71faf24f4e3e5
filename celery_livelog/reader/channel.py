"""What the hub remembers of one stream, and who is to be told that there is more."""

from __future__ import annotations

import asyncio
from collections import deque

from celery_livelog.reader.portions import Entry, Portion, order, portions

#: Bytes of a task's stream that are remembered, about: for each of its viewers, beside what was read last; and at most.
_EACH, _REMEMBERED = 24 * 1024, 2 * 1024 * 1024


class Channel:
    """All entries of a stream after `start`, up to `last`."""

    def __init__(self, entry_id: str) -> None:
        self.start = self.last = entry_id
        self.viewers = 0
        self._portions: deque[Portion] = deque()
        self._size = 0
        self._waiting: list[asyncio.Future[bool]] = []
        self._quiet = True

    def add(self, entries: list[Entry]) -> None:
        """Remember new entries and wake the viewers."""
        new = list(portions(entries))
        self._portions += new
        self._size += sum(portion.size for portion in new)
        self.last = entries[-1][0]
        while len(self._portions) > 1 and self._too_much(len(new)):
            forgotten = self._portions.popleft()
            self._size -= forgotten.size
            self.start = forgotten.last
        self._quiet = False
        self._wake(news=True)

    def after(self, entry_id: str) -> list[Portion] | None:
        """What comes after an id; None when not all of it is remembered."""
        if entry_id == self.last:
            return []
        found: list[Portion] = []
        for portion in reversed(self._portions):
            if portion.last == entry_id:
                return found[::-1]
            found.append(portion)
        place = order(entry_id)
        if place < order(self.start):
            return None
        return [portion.after(place) for portion in found[::-1] if order(portion.last) > place]

    def tick(self) -> None:
        """Some time is over: tell the viewers, if they were told nothing in it."""
        if self._quiet:
            self._wake(news=False)
        self._quiet = True

    async def news(self) -> bool:
        """Wait for new entries; False when some time is over without any."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return await waiter

    def _too_much(self, new: int) -> bool:
        """Whether a portion is to be forgotten. The `new` ones nobody has seen yet."""
        old = len(self._portions) > new
        return self._size > (min(self.viewers * _EACH, _REMEMBERED) if old else _REMEMBERED)

    def _wake(self, *, news: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(news)
