"""A user's Celery project in a directory of its own, with livelog on, and a client to send its tasks with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend
from celery.result import AsyncResult

from celery_livelog.settings import Settings

_SOURCE = Path(__file__).parent.parent / "project" / "proj.py"


class Project:
    """The project; `directory` is where ``celery -A proj`` runs."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        directory.mkdir()
        shutil.copy(_SOURCE, directory)
        self.directory = directory
        self.conf: dict[str, Any] = {}
        self.app = Celery("proj", broker=redis_url, backend=redis_url, set_as_current=False)
        self.configure(
            broker_url=redis_url,
            result_backend=redis_url,
            broker_connection_retry_on_startup=True,
            livelog=True,
            livelog_dir=str(directory / "livelog"),
        )

    def configure(self, **settings: Any) -> None:
        """Change settings of the app, for workers and Flowers started from now on; ``None`` takes a setting away."""
        conf = {**self.conf, **settings}
        self.conf = {name: value for name, value in conf.items() if value is not None}
        (self.directory / "settings.json").write_text(json.dumps(self.conf))

    @property
    def settings(self) -> Settings:
        """What livelog makes of the app's settings."""
        return Settings.from_conf(self.conf)

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult:
        """Send a task of ``proj.py``.

        :param options: of ``apply_async``: ``kwargs``, ``queue``, ``task_id``, ``time_limit`` …
        """
        return self.app.send_task(f"proj.{task}", args, **options)

    def run(self, task: str, *args: Any, timeout: float = 60, **options: Any) -> AsyncResult:
        """Send a task and wait for its outcome, whatever that is, at most `timeout` seconds."""
        result = self.send(task, *args, **options)
        result.get(timeout=timeout, propagate=False)
        return result

    def close(self) -> None:
        """Close the client's connections, which Celery leaves to the garbage collector."""
        backend = self.app.backend
        if isinstance(backend, RedisBackend):
            backend.result_consumer.stop()
            backend.result_consumer._pubsub = None  # else each result that still exists connects again when it goes
            backend.client.connection_pool.disconnect()
        self.app.close()
