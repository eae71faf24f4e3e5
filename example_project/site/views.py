"""One page: a button for each pipeline, the stages of its newest run, and the log of the task that was sent last."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from example_project.site.access import account_of
from example_project.site.celery_app import app

PROJECT, SITE = 7, "main"


@login_required
def project(request: HttpRequest) -> HttpResponse:
    """The project's page."""
    shown = {"project_id": PROJECT, "site": SITE, "task_id": request.session.get("sent")}
    return render(request, "project.html", shown)


@require_POST
@login_required
def start(request: HttpRequest, pipeline: str) -> HttpResponse:
    """Start a pipeline, whose run is the user's and of the user's account."""
    account = account_of(request)
    if not account:
        raise Http404
    if pipeline == "compile":
        ids = {"user_id": request.user.pk, "project_id": PROJECT, "account": account}
        sent = app.send_task("example_project.compiling.compile_project", kwargs=ids)
    elif pipeline == "automation":
        ids = {"account": account, "site": SITE, "user_id": request.user.pk}
        sent = app.send_task("example_project.automation.automate_site", kwargs=ids)
    else:
        raise Http404
    request.session["sent"] = sent.id
    messages.info(request, f"The pipeline {pipeline} was started.")
    return redirect("project")
