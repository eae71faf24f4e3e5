"""The HTTP API, as routes of Django. What is answered is `web.answers`' matter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

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
    patience = held.patience(asked.request, answers.log_query(asked.arguments))
    query = patience.__enter__()
    try:
        answer = await asked.background.ask(answers.log(asked.reader, task_id, query))
    except BaseException:
        patience.__exit__(None, None, None)
        raise
    response = send(asked, answer)
    response._resource_closers.append(lambda: patience.__exit__(None, None, None))
    return response


async def download(asked: Asked, task_id: str) -> HttpResponseBase:
    """``/api/tasks/{id}/download``"""
    return send(asked, await asked.background.ask(answers.download(asked.reader, task_id)))
