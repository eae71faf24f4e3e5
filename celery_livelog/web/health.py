"""``/healthz``: whether Redis answers, and nothing else, for whoever asks and however often."""

from __future__ import annotations

import asyncio
import time

from celery_livelog.errors import StoreError
from celery_livelog.reader import Reader
from celery_livelog.web.answers import Whole
from celery_livelog.web.request import Request

#: Seconds that one look is good for, and that it may take.
_FRESH_SECONDS, _PATIENCE = 1.0, 5.0


class Health:
    """Looks whether the stores answer.

    :param reader: of all logs; nothing of what it reads is shown.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._looking = asyncio.Lock()
        self._good = False
        self._until = 0.0

    async def answer(self, request: Request) -> Whole:
        """Constant, but for the status."""
        good = await self.good()
        return Whole("application/json", b'{"ok":true}' if good else b'{"ok":false}', status=200 if good else 503)

    async def good(self) -> bool:
        """Whether they do."""
        async with self._looking:
            if time.monotonic() >= self._until:
                self._good = await self._look()
                self._until = time.monotonic() + _FRESH_SECONDS
            return self._good

    async def _look(self) -> bool:
        try:
            await asyncio.wait_for(self._reader.recent(1), _PATIENCE)
        except (StoreError, asyncio.TimeoutError):
            return False
        return True
