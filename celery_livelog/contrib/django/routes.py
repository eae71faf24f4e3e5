"""What every route has in common: who asks, what that user may see, how an error is told. No view is served but so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import render
from django.urls import reverse

from celery_livelog.contrib.django.access import viewer_of
from celery_livelog.contrib.django.background import Background, background
from celery_livelog.errors import LivelogError, StoreError, complain
from celery_livelog.reader import Reader
from celery_livelog.reader.door import reader_for
from celery_livelog.web.answers import Refusal
from celery_livelog.web.log_query import asked


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be answered, with all that its user may read."""

    request: HttpRequest
    background: Background
    reader: Reader

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments of the URL, of each the last, and what an EventSource says by headers."""
        return asked(dict(self.request.GET.items()), self.request.headers)


View = Callable[..., Awaitable[HttpResponseBase]]
Refuse = Callable[[HttpRequest, int, str], HttpResponseBase]


def page(view: View) -> Callable[..., Awaitable[HttpResponseBase]]:
    """A view as the route of a page: who is not logged in is sent to do so."""
    return _route(view, _refuse_page, lambda request: redirect_to_login(request.get_full_path()))


def api(view: View) -> Callable[..., Awaitable[HttpResponseBase]]:
    """A view as a route of the API: errors are JSON."""
    return _route(view, _refuse_api, lambda request: _refuse_api(request, 403, "not logged in"))


def json(answer: Any, status: int = 200) -> HttpResponse:
    """An answer as JSON."""
    return HttpResponse(msgspec.json.encode(answer), content_type="application/json", status=status)


def root() -> str:
    """Where the app is, without a slash at the end."""
    return str(reverse("livelog:tasks")).rstrip("/")


def _route(
    view: View, refuse: Refuse, log_in: Callable[[HttpRequest], HttpResponseBase]
) -> Callable[..., Awaitable[HttpResponseBase]]:
    @wraps(view)
    async def route(request: HttpRequest, **ids: str) -> HttpResponseBase:
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        response = await _answer(view, refuse, log_in, request, ids)
        response.headers["Cache-Control"] = "no-store, private"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    route.login_required = False  # type: ignore[attr-defined]  # Django's own would send an API to the login page
    route.livelog_guarded = True  # type: ignore[attr-defined]
    return route


async def _answer(
    view: View,
    refuse: Refuse,
    log_in: Callable[[HttpRequest], HttpResponseBase],
    request: HttpRequest,
    ids: dict[str, str],
) -> HttpResponseBase:
    viewer = await sync_to_async(viewer_of)(request)
    if viewer is None:
        return log_in(request)
    try:
        back = await sync_to_async(background)()
        if back is None:
            raise Refusal(404, "not found")
        return await view(Asked(request, back, reader_for(back.reader, viewer)), **ids)
    except Refusal as error:
        status, sentence = error.status, str(error)
    except StoreError as error:
        complain("a request could not be answered", error)
        status, sentence = 503, "service unavailable"
    except LivelogError as error:
        complain("live logs cannot be shown", error)
        status, sentence = 503, "live logs are not set up as they should be; the server's console says why"
    return await sync_to_async(refuse)(request, status, sentence)


def _refuse_api(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
    return json({"error": sentence}, status)


def _refuse_page(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
    return render(request, "livelog/refused.html", {"sentence": sentence, "root": root()}, status=status)
