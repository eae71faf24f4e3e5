"""Answers that are sent as something comes: now and then they say that the server is there, or nobody who is gone is
noticed, and proxies close what is quiet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from celery_livelog.cancel import cancel

#: Seconds without anything after which something is said.
_QUIET_SECONDS = 15.0


async def kept_alive(pieces: AsyncGenerator[bytes, None], beat: bytes) -> AsyncGenerator[bytes, None]:
    """The pieces, and a beat where none comes for a while."""
    coming: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            coming = coming or asyncio.create_task(_next(pieces))
            await asyncio.wait({coming}, timeout=_QUIET_SECONDS)
            if not coming.done():
                yield beat
                continue
            piece, coming = coming.result(), None
            if piece is None:
                return
            yield piece
    finally:
        if coming is not None:
            await cancel(coming)
        await pieces.aclose()


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(pieces, None)
