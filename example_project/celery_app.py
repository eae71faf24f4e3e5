"""The Celery app. What makes its output live is one line."""

from __future__ import annotations

import os

from celery import Celery

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")

app = Celery("example_project", broker=REDIS_URL, backend=REDIS_URL, include=["example_project.tasks"])
app.conf.broker_connection_retry_on_startup = True
app.conf.livelog = True

if "LIVELOG_DIR" in os.environ:
    app.conf.livelog_dir = os.environ["LIVELOG_DIR"]
