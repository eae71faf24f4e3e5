"""A reader for a test, which must not leave anything running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from celery_livelog.reader import Reader
from celery_livelog.settings import Settings

#: Seconds after which a test has failed.
_LONG = 30.0


@asynccontextmanager
async def reader_of(settings: Settings) -> AsyncIterator[Reader]:
    """A reader; at its end nothing that it has started goes on."""
    before = asyncio.all_tasks()
    reader = Reader(settings)
    yield reader
    await reader.close()
    assert asyncio.all_tasks() <= before


def run(settings: Settings, test: Callable[[Reader], Awaitable[None]]) -> None:
    """Run a test with a reader."""

    async def within() -> None:
        async with reader_of(settings) as reader:
            await test(reader)

    asyncio.run(asyncio.wait_for(within(), _LONG))
