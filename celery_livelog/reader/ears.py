"""Who wants to hear when attempts of a run begin or end, as Redis' index tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from celery_livelog.attempts import Attempt


class Ear:
    """Hears of one run."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()

    def hear(self) -> None:
        """There is something new."""
        self._heard.set()

    async def listen(self, patience: float) -> bool:
        """Wait for something new, at most `patience` seconds; whether there was something."""
        try:
            await asyncio.wait_for(self._heard.wait(), patience)
        except asyncio.TimeoutError:
            return False
        self._heard.clear()
        return True


class Ears:
    """All who listen, by run."""

    def __init__(self) -> None:
        self._of_run: dict[str, set[Ear]] = {}

    def __bool__(self) -> bool:
        """Whether somebody listens."""
        return bool(self._of_run)

    @contextmanager
    def ear(self, run_id: str) -> Iterator[Ear]:
        """Hear of a run."""
        ear = Ear()
        self._of_run.setdefault(run_id, set()).add(ear)
        try:
            yield ear
        finally:
            self._of_run[run_id].discard(ear)
            if not self._of_run[run_id]:
                del self._of_run[run_id]

    def tell(self, attempts: Iterable[Attempt]) -> None:
        """These attempts have begun or ended."""
        for run_id in {attempt.run_id for attempt in attempts}:
            for ear in self._of_run.get(run_id, ()):
                ear.hear()
