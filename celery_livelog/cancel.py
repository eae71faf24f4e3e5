"""End asyncio tasks for sure."""

from __future__ import annotations

import asyncio
from typing import Any

#: Seconds after which a task that was told to stop is told again.
_PATIENCE = 0.1


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they are done, whatever they end with.

    Once is not enough: before Python 3.12 a cancellation that meets the end of an `asyncio.wait_for`, which redis-py
    uses for every answer, is lost.
    """
    going = {task for task in tasks if not task.done()}
    while going:
        for task in going:
            task.cancel()
        _, going = await asyncio.wait(going, timeout=_PATIENCE)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # else it would be reported as one that nobody has asked for
