"""The HTTP API over a reader, as Tornado handlers without a server of their own.

Whoever serves them puts the reader into the application's settings as ``livelog_reader``, and mixes in a ``prepare()``
that says who asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from http import HTTPStatus
from typing import Any, TypeVar, cast

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from celery_livelog.cancel import cancel
from celery_livelog.door import reader_for
from celery_livelog.errors import StoreError, complain
from celery_livelog.permissions import Viewer
from celery_livelog.reader import Reader
from celery_livelog.web import answers
from celery_livelog.web.answers import Refusal, Streamed, Whole
from celery_livelog.web.log_query import asked

T = TypeVar("T")


class Refused(HTTPError):
    """An answer other than 200, with the sentence that says why and what to do."""

    def __init__(self, status_code: int, sentence: str) -> None:
        super().__init__(status_code)
        self.sentence = sentence


class ApiHandler(RequestHandler):
    """What all handlers of the API share: where they read, and errors as JSON."""

    #: Who asks, as whoever serves this knows it; None for somebody who sees nothing.
    viewer: Viewer | None = None

    @property
    def reader(self) -> Reader:
        """A reader of what the viewer may see."""
        return reader_for(cast(Reader, self.settings["livelog_reader"]), self.viewer or Viewer(via=""))

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

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments of the URL, of each the last, and what headers add to them."""
        given = {name: self.get_query_argument(name, strip=False) for name in self.request.query_arguments}
        return asked(given, self.request.headers)

    async def answer(self, question: Awaitable[T]) -> T:
        """What is answered to a question.

        :raises Refused: when that is a refusal.
        """
        try:
            return await question
        except Refusal as refusal:
            raise Refused(refusal.status, str(refusal)) from None


class TasksApi(ApiHandler):
    """Running and recent tasks."""

    async def get(self) -> None:
        self.finish(await self.answer(answers.tasks(self.reader, self.arguments)))


class TaskApi(ApiHandler):
    """One task: its state and all its attempts."""

    async def get(self, task_id: str) -> None:
        self.finish(await self.answer(answers.task(self.reader, task_id)))


class Streaming(ApiHandler):
    """Sends answers that may come piece by piece."""

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

    async def send(self, question: Awaitable[Whole | Streamed]) -> None:
        """Write what is answered to a question."""
        answer = await self.answer(question)
        if isinstance(answer, Streamed):
            self.set_header("X-Accel-Buffering", "no")  # or nginx collects a live log before it passes it on
        await self.write_answer(answer)

    async def write_answer(self, answer: Whole | Streamed) -> None:
        """Write an answer as it comes, each piece when the one before has left."""
        self.set_status(answer.status)
        for name, value in {**answer.headers, "Content-Type": answer.content_type}.items():
            self.set_header(name, value)
        if isinstance(answer, Whole):
            await self.finish(answer.body or None)  # some answers must not even have an empty one
            return
        begun = False
        try:
            async for piece in answer.pieces:
                self.write(piece)
                await self.flush()
                begun = True
        except Exception:
            if begun:  # an answer that ends as it should would pass for the whole log
                self.detach().close()
            raise
        await self.finish()


class LogApi(Streaming):
    """A task's log, whole or filtered, at once, followed or by long-poll."""

    async def get(self, task_id: str) -> None:
        await self.while_connected(self.send(self._answered(task_id)))

    async def _answered(self, task_id: str) -> Whole | Streamed:
        return await answers.log(self.reader, task_id, answers.log_query(self.arguments))


class DownloadApi(Streaming):
    """The whole log, all attempts, as a text file."""

    async def get(self, task_id: str) -> None:
        await self.while_connected(self.send(answers.download(self.reader, task_id)))
