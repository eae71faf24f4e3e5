"""What an attempt prints, on its way to lines: stdout and stderr of each thread and of subprocesses apart. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from celery_livelog.lines import LineSplitter

#: A stream, and the thread that writes to it or `RAW_CHANNEL`.
Place = tuple[int, int]
#: Of each place, its unfinished line and the stage in which that was written.
SplittingState = list[tuple[Place, tuple[bytes, bool, bool], int]]
#: Where raw bytes come from, apart from threads.
RAW_CHANNEL = -1

Lines = list[tuple[str, bool]]


class Splitting:
    """The lines of all places of an attempt.

    :param keeps: see `LineSplitter`.
    :param state: where another one stood.
    """

    def __init__(self, keeps: Callable[[bytes], object] | None = None, state: SplittingState | None = None) -> None:
        self._keeps = keeps
        self._splitters: dict[Place, LineSplitter] = {}
        self._stages: dict[Place, int] = {}
        for place, held, stage in state or ():
            self._splitters[place] = LineSplitter(keeps=keeps)
            self._splitters[place].resume(held)
            self._stages[place] = stage

    def state(self) -> SplittingState:
        """What the next one needs."""
        return [(place, splitter.held, self._stages[place]) for place, splitter in self._splitters.items()]

    def feed(self, place: Place, data: bytes, stage: int) -> Lines:
        """The lines that bytes finish which were written in a stage of the task's code."""
        splitter = self._splitters.get(place)
        if splitter is None:
            splitter = self._splitters[place] = LineSplitter(keeps=self._keeps)
        self._stages[place] = stage
        return splitter.feed(data)

    def close(self) -> Iterator[tuple[Place, Lines, int]]:
        """The unfinished lines; nothing comes any more."""
        for place, splitter in self._splitters.items():
            yield place, splitter.close(), self._stages[place]
        self._splitters.clear()

    def changed(self) -> Iterator[tuple[Place, str, bool]]:
        """The unfinished lines that have changed since they were last asked for, and whether they are redrawn."""
        for place, splitter in self._splitters.items():
            if splitter.changed:
                yield place, splitter.preview(), splitter.redrawn

    @property
    def unfinished(self) -> bool:
        """Whether there is an unfinished line that has changed."""
        return any(splitter.changed for splitter in self._splitters.values())
