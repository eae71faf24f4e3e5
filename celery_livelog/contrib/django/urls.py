"""``path("livelog/", include("celery_livelog.contrib.django.urls"))``. An id may hold any character, also a slash."""

from __future__ import annotations

from django.urls import path

from celery_livelog.contrib.django import api, pages, routes

app_name = "livelog"
urlpatterns = [
    path("", routes.page(pages.tasks), name="tasks"),
    path("runs", routes.page(pages.runs), name="runs"),
    path("task/<path:task_id>", routes.page(pages.task), name="task"),
    path("run/<path:run_id>/progress.jsonl", routes.page(pages.progress), name="progress"),
    path("run/<path:run_id>", routes.page(pages.run), name="run"),
    path("api/tasks", routes.api(api.tasks), name="api_tasks"),
    path("api/tasks/<path:task_id>/log", routes.api(api.log), name="api_log"),
    path("api/tasks/<path:task_id>/download", routes.api(api.download), name="api_download"),
    path("api/tasks/<path:task_id>", routes.api(api.task), name="api_task"),
    path("api/runs", routes.api(api.runs), name="api_runs"),
    path("api/runs/<path:run_id>/logs", routes.api(api.run_logs), name="api_run_logs"),
    path("api/runs/<path:run_id>", routes.api(api.run), name="api_run"),
    path("static/<str:name>", pages.static, name="static"),
]
