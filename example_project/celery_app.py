"""The Celery app. What makes its output live is one line; what gives its pipelines' runs directories is another."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

CHECKOUT = Path(__file__).resolve().parent.parent
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
#: Where the files of runs are: those of compiling by user and project, those of automation by account and site.
HOME = Path(os.environ.get("LIVELOG_DIR", CHECKOUT / ".demo")).absolute()
COMPILED = os.environ.get("PIPELINE_OUTPUT_ROOT", f"{HOME}/platform_server/media/users")
AUTOMATED = os.environ.get("AUTOMATION_LOG_DIR", f"{HOME}/logs/automation")

_TASKS = ["example_project.tasks", "example_project.compiling", "example_project.automation"]

app = Celery("example_project", broker=REDIS_URL, backend=REDIS_URL, include=_TASKS)
app.conf.broker_connection_retry_on_startup = True
app.conf.livelog = True
app.conf.livelog_run_dir = [f"compile:{COMPILED}", f"automation:{AUTOMATED}"]

if "LIVELOG_DIR" in os.environ:
    app.conf.livelog_dir = os.environ["LIVELOG_DIR"]
if "AUTOMATION_SHARED_LOG_DIR" in os.environ:
    app.conf.livelog_shared_run_dir = f"automation:{os.environ['AUTOMATION_SHARED_LOG_DIR']}"
