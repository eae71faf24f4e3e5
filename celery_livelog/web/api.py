"""The HTTP API over a reader, as Tornado handlers without a server of their own.

Whoever serves them puts the reader into the application's settings as ``livelog_reader``, and mixes in a ``prepare()``
that decides who may ask.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from http import HTTPStatus
from typing import Any, cast

import msgspec
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from celery_livelog.attempts import Attempt
from celery_livelog.cancel import cancel
from celery_livelog.errors import StoreError, complain
from celery_livelog.reader import Reader
from celery_livelog.web.log_answer import Answer
from celery_livelog.web.log_query import LogQuery

#: Tasks that a list shows, by default and at most.
_TASKS, _MOST_TASKS = 100, 1000


class Refused(HTTPError):
    """An answer other than 200, with the sentence that says why and what to do."""

    def __init__(self, status_code: int, sentence: str) -> None:
        super().__init__(status_code)
        self.sentence = sentence


class ApiHandler(RequestHandler):
    """What all handlers of the API share: where they read, and errors as JSON."""

    @property
    def reader(self) -> Reader:
        """The one reader of this server."""
        return cast(Reader, self.settings["livelog_reader"])

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == HTTPStatus.UNAUTHORIZED:
            super().write_error(status_code, **kwargs)  # names the way to log in, as only the server knows it
            return
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, StoreError):
            status_code = HTTPStatus.SERVICE_UNAVAILABLE
        sentence = error.sentence if isinstance(error, Refused) else HTTPStatus(status_code).phrase.lower()
        self.set_status(status_code)
        self.finish({"error": sentence})

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, StoreError):
            complain("a request could not be answered", value)
        else:
            super().log_exception(typ, value, tb)

    async def attempts_of(self, task_id: str) -> list[Attempt]:
        """The attempts of a task, in order of start.

        :raises Refused: 404 alike for a task that is unknown and one that may not be seen.
        """
        attempts = await self.reader.attempts(task_id)
        if not attempts:
            raise Refused(404, "not found")
        return attempts


class TasksApi(ApiHandler):
    """Running and recent tasks, the newest first, each by its latest attempt."""

    async def get(self) -> None:
        limit = self.get_query_argument("limit", str(_TASKS))
        if not re.fullmatch(r"[0-9]{1,6}", limit):
            raise Refused(400, f"limit is {limit[:60]!r}; expected a number of tasks")
        latest: dict[str, Attempt] = {}
        for attempt in await self.reader.recent(min(int(limit), _MOST_TASKS)):
            latest.setdefault(attempt.task_id, attempt)
        self.finish({"tasks": [msgspec.structs.asdict(attempt) for attempt in latest.values()]})


class TaskApi(ApiHandler):
    """One task: its state and all its attempts."""

    async def get(self, task_id: str) -> None:
        attempts = await self.attempts_of(task_id)
        state = attempts[-1].state
        self.finish({"task_id": task_id, "state": state, "attempts": list(map(msgspec.structs.asdict, attempts))})


class _Streaming(ApiHandler):
    _work: asyncio.Task[None] | None = None

    async def while_connected(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, and drop it when the client goes away."""
        self._work = asyncio.ensure_future(work)
        try:
            await self._work
        except StreamClosedError:
            pass
        except asyncio.CancelledError:
            if not self._work.cancelled():
                raise

    def on_connection_close(self) -> None:
        if self._work is not None:
            self._ending = asyncio.ensure_future(cancel(self._work))

    async def send(self, pieces: AsyncIterator[bytes]) -> None:
        """Write pieces as they come, each when the one before has left."""
        self.set_header("X-Accel-Buffering", "no")  # or nginx collects a live log before it passes it on
        begun = False
        try:
            async for piece in pieces:
                self.write(piece)
                await self.flush()
                begun = True
        except Exception:
            if begun:  # an answer that ends as it should would pass for the whole log
                self.detach().close()
            raise
        await self.finish()


class LogApi(_Streaming):
    """A task's log, whole or filtered, at once, followed or by long-poll."""

    async def get(self, task_id: str) -> None:
        query = self._query()
        json_lines = query.format == "ndjson"
        self.set_header("Content-Type", "application/x-ndjson" if json_lines else "text/plain; charset=utf-8")
        if query.wait:
            await self.while_connected(self._hold(task_id, query))
            return
        known = [] if query.follow and not query.lines else await self.attempts_of(task_id)
        if query.attempt and known and query.attempt > len(known):
            raise Refused(404, "not found")
        await self.while_connected(self.send(Answer(self.reader, task_id, query, known).pieces()))

    async def _hold(self, task_id: str, query: LogQuery) -> None:
        answer, ended = await Answer(self.reader, task_id, query, []).news()
        self.set_header("Livelog-Ended", "1" if ended else "0")
        await self.finish(answer)

    def _query(self) -> LogQuery:
        names = self.request.query_arguments
        try:
            return LogQuery.parse({name: self.get_query_argument(name, strip=False) for name in names})
        except ValueError as error:
            raise Refused(400, str(error)) from None


class DownloadApi(_Streaming):
    """The whole log, all attempts, as a text file."""

    async def get(self, task_id: str) -> None:
        known = await self.attempts_of(task_id)
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", task_id)[:100].strip("._") or "task"
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{name}.log"')
        await self.while_connected(self.send(Answer(self.reader, task_id, LogQuery(), known).pieces()))
