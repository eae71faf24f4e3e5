"""Asks once for all who want to know the same at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from celery_livelog.cancel import cancel

T = TypeVar("T")


class Asking(Generic[T]):
    """Questions under way, by name. No answer is older than its question: who asks while one is under way waits for the
    next, together with all others who do.
    """

    def __init__(self) -> None:
        self._next: dict[Hashable, asyncio.Task[T]] = {}
        self._begun: dict[Hashable, asyncio.Task[T]] = {}

    async def ask(self, name: Hashable, question: Callable[[], Awaitable[T]]) -> T:
        """What `question` answers, or the same question of another who asked by this name."""
        asked = self._next.get(name)
        if asked is None:
            asked = self._next[name] = asyncio.create_task(self._answer(name, question))
            asked.add_done_callback(_take_note)
        return await asyncio.shield(asked)

    async def close(self) -> None:
        """Ask no more."""
        await cancel(*self._next.values(), *self._begun.values())

    async def _answer(self, name: Hashable, question: Callable[[], Awaitable[T]]) -> T:
        try:
            before = self._begun.get(name)
            if before is not None:
                await asyncio.wait({before})
        finally:
            mine = self._next.pop(name)
        self._begun[name] = mine
        try:
            return await question()
        finally:
            if self._begun.get(name) is mine:
                del self._begun[name]


def _take_note(asked: asyncio.Task[T]) -> None:
    if not asked.cancelled():
        asked.exception()  # else it would be reported when all who asked have gone
