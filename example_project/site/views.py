"""One page: buttons that start pipelines, the stages of the newest run, and the log of the task that was sent last."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from celery_livelog import run
from example_project.site.access import account_of
from example_project.site.celery_app import app

#: Each button with the task that it starts.
PIPELINES = {
    "Survey the library": "example_project.tasks.survey_stdlib",
    "Build a wheel": "example_project.tasks.build_wheel",
}
PROJECT = 7


@login_required
def project(request: HttpRequest) -> HttpResponse:
    """The project's page."""
    sent = request.session.get("sent")
    return render(request, "project.html", {"pipelines": PIPELINES, "project_id": PROJECT, "task_id": sent})


@require_POST
@login_required
def start(request: HttpRequest) -> HttpResponse:
    """Start a pipeline as a run of the user and the user's account."""
    name = request.POST.get("pipeline", "")
    account = account_of(request)
    if name not in PIPELINES or not account:
        raise Http404
    with run(name=name, account=account, site="main", user_id=request.user.pk, project_id=PROJECT) as begun:
        request.session["sent"] = app.send_task(PIPELINES[name]).id
    messages.info(request, f"{name} was started as {begun.run_id}.")
    return redirect("project")
