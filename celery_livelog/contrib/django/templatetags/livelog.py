"""``{% load livelog %}``: a task's log and a run's stages on any page of a site.

Ids from the page's context are only ever text; what is shown is what the user of the request may see.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import template
from django.http import HttpRequest

from celery_livelog.contrib.django.access import viewer_of
from celery_livelog.contrib.django.background import background
from celery_livelog.contrib.django.pages import run_and_stages, stages_of
from celery_livelog.contrib.django.routes import root
from celery_livelog.errors import LivelogError, complain
from celery_livelog.events import shown
from celery_livelog.reader import Reader
from celery_livelog.reader.door import reader_for
from celery_livelog.runs import RunView, Stage

register = template.Library()

#: Seconds that a page waits for the catalog.
_PATIENCE = 1.0
_NO_RUN = "No run to show yet."
_AWAY = "The stages cannot be read now."


@register.inclusion_tag("livelog/log.html", takes_context=True)
def livelog(context: template.Context, task_id: Any, nonce: str = "") -> dict[str, Any]:
    """A task's log: live while it runs, whole after its end.

    :param nonce: of the page's Content-Security-Policy, where neither Django nor django-csp has it.
    """
    return {"root": root(), "task_id": str(task_id), "nonce": nonce or _nonce(context)}


@register.inclusion_tag("livelog/stages.html", takes_context=True)
def livelog_stages(context: template.Context, run_id: Any = None, nonce: str = "", **fields: Any) -> dict[str, Any]:
    """The stages of a run with their progress, and a link to its `progress.jsonl`.

    :param run_id: which run; without it the newest one that the user may see.
    :param fields: the newest one that was begun with these: ``project_id=project.pk``; `account`, `site` too.
    """
    sentence, run, stages = _NO_RUN, None, list[Stage]()
    scope: dict[str, str] = {name: str(fields.pop(name)) for name in ("account", "site") if name in fields}
    begun_with = {name: shown(value) for name, value in fields.items()}
    try:
        run, stages = _read(_request(context), None if run_id is None else str(run_id), scope, begun_with)
    except LivelogError as error:
        complain("stages cannot be shown on a page", error)
        sentence = _AWAY
    query = urlencode({**scope, **{f"field.{name}": value for name, value in begun_with.items()}})
    asked = {"root": root(), "run_id": run_id, "query": query, "nonce": nonce or _nonce(context)}
    return {**asked, "run": run, "stages": stages, "sentence": sentence}


@register.inclusion_tag("livelog/script.html", takes_context=True)
def livelog_script(context: template.Context, name: str) -> dict[str, Any]:
    """A script of the app's own pages."""
    return {"root": root(), "name": name, "nonce": _nonce(context)}


def _read(
    request: HttpRequest | None, run_id: str | None, scope: dict[str, str], fields: dict[str, str]
) -> tuple[RunView | None, list[Stage]]:
    viewer = None if request is None else viewer_of(request)
    back = background()
    if viewer is None or not viewer.seen or back is None:
        return None, []
    reader = reader_for(back.reader, viewer)
    return back.wait(
        run_and_stages(reader, run_id) if run_id is not None else _newest(reader, scope, fields), _PATIENCE
    )


async def _newest(reader: Reader, scope: dict[str, str], fields: dict[str, str]) -> tuple[RunView | None, list[Stage]]:
    newest = await reader.runs.recent(1, account=scope.get("account"), site=scope.get("site"), fields=fields)
    return (newest[0], await stages_of(reader, newest[0])) if newest else (None, [])


def _request(context: template.Context) -> HttpRequest | None:
    """The request, also where no context processor adds it."""
    return context.get("request") or getattr(context, "request", None)


def _nonce(context: template.Context) -> str:
    """The nonce that Django 6 puts into the context, or django-csp on the request."""
    return str(context.get("csp_nonce") or getattr(_request(context), "csp_nonce", "") or "")
