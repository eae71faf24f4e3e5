"""What one viewer may see: as long as it lasts, in which scopes, and what the site's rule leaves of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import time
from typing import TypeVar

from celery_livelog.access.rule import Rule
from celery_livelog.attempts import Attempt
from celery_livelog.errors import TokenError
from celery_livelog.permissions import RUNS, Viewer
from celery_livelog.runs import RunView

T = TypeVar("T")

#: How much more than was asked for is looked through for what the rule allows.
_FURTHER = 16


class Bounds:
    """The bounds of a viewer.

    :param rule: the site's.
    """

    def __init__(self, viewer: Viewer, rule: Rule) -> None:
        self.viewer = viewer
        self.rule = rule
        self.scopes = viewer.scopes

    def check_time(self) -> None:
        """Ask the clock.

        :raises TokenError: when what the viewer may see ended.
        """
        if self.viewer.over(time()):
            raise TokenError("the token has expired")

    def open_for(self, task_id: str) -> bool:
        """Whether a task may be seen whatever is known of it."""
        return not self.rule and any(scope.opens(task_id) for scope in self.scopes)

    async def allow(self, actions: Sequence[str], task_id: str, attempts: Sequence[Attempt]) -> bool:
        """Whether the rule allows all of this with a task. It is asked about one of which nothing is known, too."""
        told = bool(attempts) and all(map(_told, attempts))
        asked = attempts or [Attempt(attempt="", task_id=task_id)]
        return not self.rule or all(await self.rule.allows(self.viewer, actions, [asked], exist=told))

    async def of_attempts(self, action: str, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Those of the attempts whose tasks the rule allows this with."""
        tasks: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            tasks.setdefault(attempt.task_id, []).append(attempt)
        if self.rule:
            tasks = {task_id: of_task for task_id, of_task in tasks.items() if all(map(_told, of_task))}
        answers = await self.rule.allows(self.viewer, (action,), list(tasks.values()))
        allowed = {task_id for task_id, answer in zip(tasks, answers, strict=True) if answer}
        return [attempt for attempt in attempts if attempt.task_id in allowed]

    async def of_runs(self, runs: Sequence[RunView], *, exist: bool = True) -> list[RunView]:
        """Those of the runs that the rule allows to be seen."""
        answers = await self.rule.allows(self.viewer, (RUNS,), [[run] for run in runs], exist=exist)
        return [run for run, answer in zip(runs, answers, strict=True) if answer]


async def filled(
    limit: int, ask: Callable[[int], Awaitable[list[T]]], keep: Callable[[list[T]], Awaitable[list[T]]]
) -> list[T]:
    """A list of `limit` of what is kept; where too little is, more is asked for: up to 16 times as much.

    :param ask: gives up to so many.
    """
    count = limit
    while True:
        found = await ask(count)
        kept = await keep(found)
        if len(kept) >= limit or len(found) < count or count >= _FURTHER * limit:
            return kept[:limit]
        count *= 4


def _told(attempt: Attempt) -> bool:
    """Whether anything is known of an attempt but that it is in the stream."""
    return attempt != Attempt(attempt=attempt.attempt, task_id=attempt.task_id)
