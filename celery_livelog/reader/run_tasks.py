"""Which tasks a run has, as they start, until it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from celery_livelog.attempts import Attempt
from celery_livelog.permissions import LIVE
from celery_livelog.reader.run_reader import RunReader

#: Seconds between two looks where nothing is heard, and where something was heard that the catalog does not know yet.
_LOOK_SECONDS, _AGAIN_SECONDS = 1.5, 0.2
#: Looks after something was heard.
_AGAIN = 5
#: Seconds for which a run must seem over: the next task of a chain may just be on its way.
_SETTLED_SECONDS = 3.0


class RunTasks:
    """The tasks of one run."""

    def __init__(self, runs: RunReader, run_id: str) -> None:
        self._runs = runs
        self._run_id = run_id
        #: The first attempt of each task that is known.
        self.first: dict[str, Attempt] = {}
        #: How the run stands.
        self.state = "RUNNING"

    async def joining(self) -> AsyncGenerator[list[list[Attempt]], None]:
        """Give the tasks that are new, each as its attempts; wait for a run that has not begun. Ends with the run."""
        over_since, quick = None, 0
        with self._runs.hearing(self._run_id) as ear:
            while True:
                attempts, over = await self._look()
                yield self._new(attempts)
                now = asyncio.get_running_loop().time()
                over_since = (over_since or now) if over and not quick else None
                if over_since is not None and now - over_since >= _SETTLED_SECONDS:
                    return
                heard = await ear.listen(_until(_AGAIN_SECONDS if quick else _LOOK_SECONDS))
                quick = _AGAIN if heard else max(0, quick - 1)

    async def _look(self) -> tuple[Sequence[Attempt], bool]:
        view = await self._runs.get(self._run_id)
        if view is None:
            return (), False
        self.state = view.state
        attempts = await self._runs.within(view.account, view.site).attempts(self._run_id, action=LIVE)
        return attempts, view.state != "RUNNING" and not any(attempt.running for attempt in attempts)

    def _new(self, attempts: Sequence[Attempt]) -> list[list[Attempt]]:
        tasks: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            tasks.setdefault(attempt.task_id, []).append(attempt)
        new = [of_task for task_id, of_task in tasks.items() if task_id not in self.first]
        self.first.update((of_task[0].task_id, of_task[0]) for of_task in new)
        return new


def _until(interval: float) -> float:
    """Seconds until all look again who look so often: at the same moment, so that they share what is answered."""
    return interval - asyncio.get_running_loop().time() % interval
