"""The one reader of a process and the event loop that it lives on, in a thread of their own.

A request asks from its own thread, or from its own loop. Both begin with the first question and are left behind by a
fork, so a server may load the app before it forks its workers.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from celery import Celery

from celery_livelog.cancel import cancel
from celery_livelog.contrib.django import conf
from celery_livelog.errors import StoreError, hide_in_messages
from celery_livelog.reader import Reader
from celery_livelog.settings import Settings

T = TypeVar("T")

_END = object()


_lock = threading.Lock()
_current: Background | None = None


def background() -> Background | None:
    """The one of this process; None while livelog is off.

    :raises SettingsError: when the Celery app's settings cannot be used.
    """
    global _current
    with _lock:
        if _current is None:
            app = conf.celery_app()
            settings = conf.livelog_settings(app)
            _current = None if settings is None else Background(settings, app)
        return _current


def _forget() -> None:
    """Leave to the parent what is the parent's: threads and locks are not what they were there."""
    global _lock, _current
    _lock, _current = threading.Lock(), None


os.register_at_fork(after_in_child=_forget)


class Background:
    """A reader on a loop of its own.

    :param settings: where it reads.
    :param app: whose workers it may ask.
    :raises SettingsError: when the site's rule cannot be imported.
    """

    def __init__(self, settings: Settings, app: Celery) -> None:
        self.settings = settings
        self._app = app
        hide_in_messages(settings.redactor)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="livelog-reader", daemon=True)
        self._thread.start()
        try:
            self.reader = asyncio.run_coroutine_threadsafe(self._make_reader(), self._loop).result()
        except BaseException:
            self._stop()  # each request tries again
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> None:
        """Let something be done, and do not wait for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Let something be done on the loop, and wait in this thread.

        :param timeout: seconds; then the work is given up.
        :raises StoreError: when it takes longer.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError as error:
            if future.done():
                raise
            future.cancel()
            raise StoreError(f"no answer within {timeout:g} s") from error

    async def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Let something be done on the loop, and wait on the caller's; it is given up when the caller is."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def iterate(self, pieces: AsyncIterator[bytes]) -> Iterator[bytes]:
        """What an iterator of the loop gives, in this thread."""
        try:
            while (piece := self.wait(_next(pieces))) is not _END:
                yield piece
        finally:
            self.wait(_close(pieces))

    async def aiterate(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """What an iterator of the loop gives, on the caller's loop."""
        try:
            while (piece := await self.ask(_next(pieces))) is not _END:
                yield piece
        finally:
            self.start(_close(pieces))

    def close(self) -> None:
        """Let go of all connections and end the thread."""
        self.wait(self._end())
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _make_reader(self) -> Reader:
        return Reader(self.settings, self._app)

    async def _end(self) -> None:
        await cancel(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
        await self.reader.close()


async def _next(pieces: AsyncIterator[bytes]) -> Any:
    return await anext(pieces, _END)


async def _close(pieces: AsyncIterator[bytes]) -> None:
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
