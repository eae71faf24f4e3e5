"""The site's Celery app. It sends tasks that a worker of `example_project` runs, and knows where their logs are."""

from __future__ import annotations

from celery import Celery

app = Celery("example_project.site")
app.config_from_object("django.conf:settings", namespace="CELERY")
