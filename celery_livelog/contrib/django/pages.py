"""The pages, and the scripts and styles that they need."""

from __future__ import annotations

import mimetypes
import zlib
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import get_conditional_response

from celery_livelog.contrib.django.api import send
from celery_livelog.contrib.django.routes import Asked, root
from celery_livelog.reader import Reader
from celery_livelog.runs import RunView, Stage
from celery_livelog.web import progress_file
from celery_livelog.web.answers import Refusal

_STATIC = {file.name: file for file in (Path(__file__).parents[2] / "web" / "static").iterdir()}


async def tasks(asked: Asked) -> HttpResponseBase:
    """Running and recent tasks."""
    return await _page(asked, "livelog/tasks.html")


async def task(asked: Asked, task_id: str) -> HttpResponseBase:
    """One task's log. It waits for a task that has not started, and so is the same for all ids."""
    return await _page(asked, "livelog/task.html", task_id=task_id)


async def runs(asked: Asked) -> HttpResponseBase:
    """Runs, the newest first."""
    return await _page(asked, "livelog/runs.html")


async def run(asked: Asked, run_id: str) -> HttpResponseBase:
    """One run with its stages and tasks."""
    found, stages = await asked.background.ask(run_and_stages(asked.reader, run_id))
    if found is None:
        raise Refusal(404, "There is no such run.")
    return await _page(asked, "livelog/run.html", run=found, stages=stages)


async def progress(asked: Asked, run_id: str) -> HttpResponseBase:
    """A run's `progress.jsonl`."""
    asked_for = progress_file.answer(asked.reader, asked.background.settings, run_id)
    return send(asked, await asked.background.ask(asked_for))


async def run_and_stages(reader: Reader, run_id: str) -> tuple[RunView | None, list[Stage]]:
    """A run and its stages, in order of start; None when there is none to be seen."""
    found = await reader.runs.get(run_id)
    return found, [] if found is None else await stages_of(reader, found)


async def stages_of(reader: Reader, run: RunView) -> list[Stage]:
    """The stages of a run, and not of another account's with the same id."""
    return await reader.runs.within(run.account, run.site).stages(run.run_id)


def static(request: HttpRequest, name: str) -> HttpResponse:
    """A script or a style, open to all as those of any site are."""
    file = _STATIC.get(name)
    if file is None:
        raise Http404
    content = file.read_bytes()
    # Modules import each other by plain names: after an upgrade none may come from a cache unasked.
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "ETag": f'"{zlib.crc32(content):08x}"'}
    response = HttpResponse(content, content_type=mimetypes.guess_type(name)[0], headers=headers)
    return get_conditional_response(request, etag=headers["ETag"], response=response) or response


static.login_required = False  # type: ignore[attr-defined]


async def _page(asked: Asked, template: str, **values: Any) -> HttpResponse:
    # In a thread: what a site adds to its templates may ask the database.
    return await sync_to_async(render)(asked.request, template, {"root": root(), **values})
