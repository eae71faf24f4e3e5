"""The addresses of the tests' Django site, and who may see what there."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import include, path

from celery_livelog.contrib.django.access import EVERYTHING, Scope

#: The page that `show` shows.
template = ""


def scope(request: HttpRequest) -> Any:
    """Staff sees everything, `own1` and `own2` their own runs, all others the account of their name."""
    user = request.user
    if user.is_staff:
        return EVERYTHING
    if user.username == "broken":
        raise LookupError("no such account")
    if user.username == "nobody":
        return Scope(account=None)
    return Scope(owner=user.pk) if user.username.startswith("own") else Scope(account=user.username)


def show(request: HttpRequest) -> HttpResponse:
    """A page of the site."""
    if "fail" in request.GET:
        raise RuntimeError("the page is broken")
    return HttpResponse(Template(template).render(RequestContext(request, {"request": request, **request.GET.dict()})))


urlpatterns = [path("livelog/", include("celery_livelog.contrib.django.urls")), path("page", show)]
