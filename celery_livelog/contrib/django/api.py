"""The HTTP API, as routes of Django. What is answered is the matter of `web.answers`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from celery_livelog.contrib.django import held
from celery_livelog.contrib.django.routes import Asked, json
from celery_livelog.web import answers
from celery_livelog.web.answers import Streamed, Whole


async def tasks(asked: Asked) -> HttpResponseBase:
    """``/api/tasks``"""
    return json(await asked.background.ask(answers.tasks(asked.reader, asked.arguments)))


async def task(asked: Asked, task_id: str) -> HttpResponseBase:
    """``/api/tasks/{id}``"""
    return json(await asked.background.ask(answers.task(asked.reader, task_id)))


async def log(asked: Asked, task_id: str) -> HttpResponseBase:
    """``/api/tasks/{id}/log``"""
    place, query = held.afford(asked.request, answers.log_query(asked.arguments))
    return await _sent(asked, answers.log(asked.reader, task_id, query), place)


async def download(asked: Asked, task_id: str) -> HttpResponseBase:
    """``/api/tasks/{id}/download``"""
    return send(asked, await asked.background.ask(answers.download(asked.reader, task_id)))


async def runs(asked: Asked) -> HttpResponseBase:
    """``/api/runs``"""
    return json(await asked.background.ask(answers.runs(asked.reader, asked.arguments)))


async def run(asked: Asked, run_id: str) -> HttpResponseBase:
    """``/api/runs/{run_id}``"""
    return json(await asked.background.ask(answers.run(asked.reader, run_id)))


async def run_logs(asked: Asked, run_id: str) -> HttpResponseBase:
    """``/api/runs/{run_id}/logs``"""
    place, _ = held.afford(asked.request, answers.run_query(asked.arguments))
    return await _sent(asked, answers.run_output(asked.reader, run_id, asked.arguments), place)


def send(asked: Asked, answer: Whole | Streamed, done: Callable[[], None] = lambda: None) -> HttpResponseBase:
    """An answer as a response.

    :param done: called when nothing more is sent.
    """
    if isinstance(answer, Whole):
        done()
        return HttpResponse(answer.body, content_type=answer.content_type, headers=answer.headers)
    pieces: Iterator[bytes] | AsyncIterator[bytes]
    if isinstance(asked.request, ASGIRequest):  # under each, Django would collect the other's whole log first
        pieces = asked.background.aiterate(answer.pieces)
    else:
        pieces = asked.background.iterate(answer.pieces)
    # X-Accel-Buffering: or nginx collects a live log before it passes it on.
    headers = {**answer.headers, "X-Accel-Buffering": "no"}
    return _Streamed(pieces, done, content_type=answer.content_type, headers=headers)


async def _sent(asked: Asked, question: Coroutine[Any, Any, Whole | Streamed], place: held.Place) -> HttpResponseBase:
    """The answer to a question, which holds its place until it is sent."""
    try:
        return send(asked, await asked.background.ask(question), place.release)
    except BaseException:
        place.release()
        raise


class _Streamed(StreamingHttpResponse):
    def __init__(self, pieces: Any, done: Callable[[], None], **options: Any) -> None:
        super().__init__(pieces, **options)
        self._done = done

    def close(self) -> None:
        super().close()
        self._done()
