"""The end of the log of a run: the ends of its tasks' logs in one, in order of time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from celery_livelog.attempts import Attempt
from celery_livelog.reader.reading import Reading
from celery_livelog.reader.sources import Sources
from celery_livelog.records import End, Record
from celery_livelog.selection import Joiner

#: Attempts that are read at once.
_AT_ONCE = 8
#: When an attempt ends of which that is not known: after all others.
_NOT_YET = "~"


class RunTail:
    """The newest records of a run, at most so many lines.

    Reads attempts from the last end backwards, of each no more than could belong to it, and stops where all that is
    left had ended before the first line of what it has.

    :param attempts: all of the run.
    """

    def __init__(self, sources: Sources, attempts: Sequence[Attempt], lines: int) -> None:
        self._sources = sources
        self._lines = lines
        self._of_task: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            self._of_task.setdefault(attempt.task_id, []).append(attempt)
        self._waiting = sorted(attempts, key=lambda attempt: attempt.ended or _NOT_YET)
        self._found: list[tuple[str, Attempt, Record]] = []

    async def read(self) -> list[tuple[Attempt, Record]]:
        """The records with the attempts that they are of, in order of time; of one attempt, in their order."""
        while self._waiting and self._lines and (self._waiting[-1].ended or _NOT_YET) >= self._since:
            next_ones = [self._waiting.pop() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            for found in await asyncio.gather(*map(self._end_of, next_ones)):
                self._found += found
            self._found.sort(key=lambda timed: timed[:1])  # stable: attempts keep their order
            del self._found[: -self._lines]
        return [(attempt, record) for _, attempt, record in self._found]

    @property
    def _since(self) -> str:
        """The time before which nothing belongs to it."""
        return self._found[0][0] if len(self._found) == self._lines else ""

    async def _end_of(self, attempt: Attempt) -> list[tuple[str, Attempt, Record]]:
        attempts = self._of_task[attempt.task_id]
        reading = Reading(self._sources, attempt.task_id, attempts)
        number = attempts.index(attempt) + 1
        reading.begin(await reading.starting.before_end(self._lines, number, partials=False))
        joiner, found, time = Joiner(), list[tuple[str, Attempt, Record]](), ""
        async for batch in reading.present(partials=False):
            for record in batch.records if batch.attempt == attempt.attempt else ():
                whole = joiner.feed(batch.number, record)
                if whole is not None and not (isinstance(whole, End) and whole.state == "SUCCESS"):
                    time = max(time, whole.timestamp)  # what C code prints may be told late
                    found.append((time, attempt, whole))
        return found[-self._lines :]
