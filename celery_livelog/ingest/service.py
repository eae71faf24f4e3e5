"""The end of all connections over which logs are written from elsewhere, in one process that serves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from celery_livelog.access.tokens import Writer
from celery_livelog.ingest.logs import Logs
from celery_livelog.ingest.owners import Owners
from celery_livelog.ingest.session import Session
from celery_livelog.ingest.shipping import Stores
from celery_livelog.settings import Settings

#: Seconds that sessions get to write what they have taken.
_SECONDS = 5.0


class Ingest:
    """Makes the sessions; what they write goes to the stores of these settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = replace(settings, transport=None)
        self._owners = Owners(settings.database_url)
        self._stores = Stores(self._settings, self._owners)
        self._logs: Logs | None = None
        self._sessions: WeakSet[Session] = WeakSet()

    def session(
        self,
        send: Callable[[bytes], Awaitable[Any]],
        close: Callable[[int, str], None],
        *,
        writer: Writer | None,
        authenticate: Callable[[str], Writer] | None = None,
    ) -> Session:
        """A session for a connection on the running event loop; see `Session`.

        :raises SpoolError: when there is no place for what waits for the stores.
        """
        if self._logs is None:
            self._logs = Logs(self._settings, self._owners)
        session = Session(self._logs, self._stores, send, close, writer=writer, authenticate=authenticate)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """End all sessions and write what there is."""
        ends = [asyncio.create_task(_end(session)) for session in self._sessions]
        if ends:
            await asyncio.wait(ends, timeout=_SECONDS)
        if self._logs is not None:
            await self._logs.close()
        await asyncio.to_thread(self._stores.close)
        self._owners.close()


async def _end(session: Session) -> None:
    await session.go_away()
    await session.stop()
