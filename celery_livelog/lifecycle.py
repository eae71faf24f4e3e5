"""What livelog starts and ends in a process that runs tasks: spool directory, shipper, capture, attempts."""

from __future__ import annotations

import atexit
import fnmatch
import logging
import os
import secrets
from contextvars import Token
from pathlib import Path
from time import time_ns
from typing import Any

from celery_livelog import spool
from celery_livelog.attempts import Attempt
from celery_livelog.errors import LivelogError
from celery_livelog.process import Capture
from celery_livelog.records import utc
from celery_livelog.settings import Settings, enabled
from celery_livelog.shipper.supervise import Supervisor, supervisor
from celery_livelog.writer import AttemptWriter, current

logger = logging.getLogger("celery_livelog")

#: Where a spawned child, which inherits nothing, finds its worker's spool directory in the pickled app.
_SPOOL_KEY = "celery_livelog_spool"
_WELL = frozenset({"SUCCESS", "IGNORED"})
#: Characters of an exception that the end of a log carries; the log itself has the traceback.
_REASON_CHARACTERS = 500


class Lifecycle:
    """Livelog in one process. Whatever cannot be started is said once, and tasks run without it."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._directory: Path | None = None
        self._supervisor: Supervisor | None = None
        self._capture: Capture | None = None
        self._refused = False
        self._wanted: dict[str, bool] = {}

    def start(self, app: Any) -> None:
        """Make the spool directory and start a shipper, unless that is done."""
        if self._settings is not None or self._refused:
            return
        try:
            if not enabled(app.conf):
                return
            settings = Settings.from_conf(app.conf)
            directory = spool.create(settings.spool_dir)
            self._supervisor = supervisor(directory, settings)
            self._supervisor.start()
        except (LivelogError, OSError) as error:
            self._refuse(str(error))
            return
        self._settings, self._directory = settings, directory
        _warn(settings)
        app.conf[_SPOOL_KEY] = str(directory)
        app.conf.include = (*app.conf.include, "celery_livelog.cli")
        atexit.register(self.stop)

    def start_process(self, app: Any, *, one_at_a_time: bool = True) -> None:
        """Open this process' journal."""
        if self._settings is None and app.conf.get(_SPOOL_KEY):
            self._settings, self._directory = Settings.from_conf(app.conf), Path(app.conf[_SPOOL_KEY])
        self.start(app)
        if self._settings is None or self._directory is None or self._capture is not None:
            return
        try:
            self._capture = Capture(self._directory, self._settings, one_at_a_time=one_at_a_time)
        except OSError as error:
            self._settings = None
            self._refuse(f"no journal in {self._directory}: {error}")

    def begin(self, task_id: str, task: Any) -> None:
        """Begin an attempt on the running context."""
        begun: tuple[AttemptWriter | None, Token[AttemptWriter | None]] | None = None
        if self._capture is None:
            self.start_process(task.app, one_at_a_time=False)
        if self._capture is not None and self._wants(task):
            begun = self._capture.begin(_attempt(task_id, task))
        elif current.get() is not None:
            begun = None, current.set(None)  # a task without a log inside one that has one
        task.request.livelog_begun = begun

    def note(self, request: Any, reason: str) -> None:
        """Keep why the attempt will end as it does."""
        begun = getattr(request, "livelog_begun", None)
        if begun is not None and begun[0] is not None:
            begun[0].reason = reason.encode("utf-8", "backslashreplace").decode()

    def end(self, task: Any, state: str) -> None:
        """End the attempt that `begin` began for this task."""
        begun = getattr(task.request, "livelog_begun", None)
        if begun is None:
            return
        task.request.livelog_begun = None
        writer, token = begun
        if writer is None:
            current.reset(token)
        elif self._capture is not None:
            exit_code = 0 if state in _WELL else 1
            ending = {"state": state, "exit_code": exit_code, "reason": writer.reason[:_REASON_CHARACTERS]}
            self._capture.end(writer, token, ending)

    def stop_process(self) -> None:
        """Close this process' journal and put its streams back. Harmless when done twice."""
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    def stop(self) -> None:
        """Leave: the shipper gets time to send the last lines. Harmless when done twice."""
        self.stop_process()
        if self._supervisor is not None:
            self._supervisor.drain()
            self._supervisor = None
        self._settings = self._directory = None
        atexit.unregister(self.stop)

    def _refuse(self, why: str) -> None:
        self._refused = True
        logger.error("livelog is off in this process: %s", why)

    def _wants(self, task: Any) -> bool:
        """Whether this task's output is wanted, by its own ``livelog=False`` and by name."""
        wanted = self._wanted.get(task.name)
        if wanted is None and self._settings is not None:
            include, exclude = self._settings.include, self._settings.exclude
            named = (not include or _matches(task.name, include)) and not _matches(task.name, exclude)
            wanted = self._wanted[task.name] = named and getattr(task, "livelog", True) is not False
        return bool(wanted)


def _warn(settings: Settings) -> None:
    for name in settings.without_effect():
        logger.warning("%s has no effect in this version of celery-livelog", name)
    if settings.redis_url is None:
        logger.warning(
            "livelog has no Redis (livelog_redis_url, broker and result backend are none): logs are only archived"
        )


def _attempt(task_id: str, task: Any) -> Attempt:
    request = task.request
    delivery = request.delivery_info or {}
    return Attempt(
        attempt=secrets.token_hex(8),
        task_id=str(task_id),
        name=task.name,
        worker=str(request.hostname or ""),
        pid=os.getpid(),
        queue=str(delivery.get("routing_key") or ""),
        root_id=str(request.root_id or ""),
        parent_id=str(request.parent_id or ""),
        group_id=str(request.group or ""),
        retries=request.retries or 0,
        redelivered=bool(delivery.get("redelivered")),
        started=utc(time_ns()),
    )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
