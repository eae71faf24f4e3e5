"""Answers on their way through Tornado, without a server of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, cast

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from celery_livelog.cancel import cancel
from celery_livelog.permissions import Viewer
from celery_livelog.reader import Reader
from celery_livelog.reader.door import reader_for
from celery_livelog.web import routes
from celery_livelog.web.answering import Answer, answered
from celery_livelog.web.answers import Whole
from celery_livelog.web.log_query import asked
from celery_livelog.web.refusal import BrokenOff, Refusal


class Refused(HTTPError):
    """An answer other than 200, with the sentence that says why and what to do."""

    def __init__(self, status_code: int, sentence: str) -> None:
        super().__init__(status_code)
        self.sentence = sentence


class Answering(RequestHandler):
    """Sends answers, whole or piece by piece, as long as somebody takes them; errors are JSON."""

    _work: asyncio.Task[None] | None = None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == HTTPStatus.UNAUTHORIZED:
            super().write_error(status_code, **kwargs)  # names the way to log in, as only the server knows it
            return
        error = kwargs.get("exc_info", (None, None))[1]
        sentence = error.sentence if isinstance(error, Refused) else HTTPStatus(status_code).phrase.lower()
        self.set_status(status_code)
        self.finish({"error": sentence})

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

    async def write_answer(self, answer: Answer) -> None:
        """Write an answer as it comes, each piece when the one before has left."""
        self.set_status(answer.status)
        for name, value in {**answer.headers, "Content-Type": answer.content_type}.items():
            self.set_header(name, value)
        if isinstance(answer, Whole):
            await self.finish(answer.body or None)  # some answers must not even have an empty one
            return
        try:
            async for piece in answer.pieces:
                self.write(piece)
                await self.flush()
        except Exception as error:  # an answer that ends as it should would pass for the whole log
            self.detach().close()
            if isinstance(error, BrokenOff):
                return
            raise
        await self.finish()


class Api(Answering):
    """The HTTP API over a reader.

    Whoever serves it puts the reader into the application's settings as ``livelog_reader``, and mixes in a
    ``prepare()`` that says who asks.
    """

    #: Who asks, as whoever serves this knows it; None for somebody who sees nothing.
    viewer: Viewer | None = None

    @property
    def path(self) -> str:
        """What is asked for below ``/api``, still percent-encoded."""
        raise NotImplementedError

    async def get(self, *args: str) -> None:
        await self.while_connected(self._answer())

    async def _answer(self) -> None:
        reader = reader_for(cast(Reader, self.settings["livelog_reader"]), self.viewer or Viewer(via=""))
        given = {name: self.get_query_argument(name, strip=False) for name in self.request.query_arguments}
        question = routes.answer(reader, self.path, asked(given, self.request.headers))
        try:
            answer = await answered(question)
        except Refusal as refusal:
            raise Refused(refusal.status, str(refusal)) from None
        await self.write_answer(answer)
