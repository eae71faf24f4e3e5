"""What livelog starts and ends in a process that runs tasks: spool directory, shipper, capture, attempts."""

from __future__ import annotations

import atexit
import fnmatch
import logging
import os
import secrets
import sys
from contextvars import Token
from pathlib import Path
from time import time_ns
from typing import Any

from celery_livelog import endings, spool
from celery_livelog.attempts import Attempt
from celery_livelog.errors import LivelogError, hide_in_messages
from celery_livelog.masking import patterns_of
from celery_livelog.process import Capture
from celery_livelog.records import utc
from celery_livelog.run_context import current_run, leave, of_request
from celery_livelog.runs import Run
from celery_livelog.settings import Settings, enabled
from celery_livelog.shipper.supervise import Supervisor, supervisor
from celery_livelog.watch import Watch
from celery_livelog.writer import AttemptWriter, current

logger = logging.getLogger("celery_livelog")

_PREFORK = "celery.concurrency.prefork"
#: Where a spawned child, which inherits nothing, finds its worker's spool directory in the pickled app.
_SPOOL_KEY = "celery_livelog_spool"


class Lifecycle:
    """Livelog in one process. Whatever cannot be started is said once, and tasks run without it."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._directory: Path | None = None
        self._supervisor: Supervisor | None = None
        self._watch: Watch | None = None
        self._capture: Capture | None = None
        self._refused = False
        self._wanted: dict[str, bool] = {}
        self._patterns: dict[str, list[str] | None] = {}

    def start(self, app: Any) -> None:
        """Make the spool directory and start a shipper, unless that is done."""
        if self._settings is not None or self._refused:
            return
        try:
            if not enabled(app.conf):
                return
            settings = Settings.from_conf(app.conf)
            hide_in_messages(settings.redactor)
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

    def start_watch(self, app: Any) -> None:
        """Start in a worker's main process, which notes what it does to its tasks and children."""
        self.start(app)
        if self._settings is not None and self._directory is not None and self._watch is None:
            try:
                self._watch = Watch(self._directory, self._settings.spool_max_bytes)
            except OSError as error:
                logger.warning("livelog cannot tell how killed tasks ended: no journal: %s", error)

    def watch_children(self, pool: Any) -> None:
        """The pool runs: look after its processes, if it is one of processes."""
        if self._watch is not None and type(pool).__module__ == _PREFORK:
            self._watch.watch_children(pool)

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
        run = of_request(task.request)
        task.request.livelog_entered = current_run.set(run)
        if self._capture is None:
            self.start_process(task.app, one_at_a_time=False)
        if self._capture is not None and self._wants(task):
            if task.name not in self._patterns:
                self._patterns[task.name] = patterns_of(task)
            begun = self._capture.begin(
                _attempt(task_id, task.name, task.request, run, self._lease),
                run=run if run.named else None,
                requeued=bool(task.acks_late and task.reject_on_worker_lost),
                redact=self._patterns[task.name],
            )
        elif current.get() is not None:
            begun = None, current.set(None)  # a task without a log inside one that has one
        task.request.livelog_begun = begun

    def failed(self, task: Any, task_id: str, error: BaseException) -> None:
        """Keep why the attempt will end; as a main process, say why a task ended whose process cannot."""
        limit = (task.request.timelimit or (None, None))[1] or task.soft_time_limit
        if not _note(task.request, endings.of_failure(error, limit)):
            self._say(endings.word_of_failure(task_id, error))

    def retried(self, request: Any, reason: Any) -> None:
        """See `failed`."""
        if not _note(request, str(reason)):
            self._say(endings.word_of_retry(request.id, reason))

    def revoked(self, task: Any, request: Any, *, terminated: bool, signum: Any, expired: bool) -> None:
        """As a main process, say that a task is killed or never began."""
        if terminated:
            self._say(endings.word_of_termination(request.id, signum))
        elif self._watch is not None and self._watch.here and self._wants(task):
            attempt = _attempt(request.id, task.name, request, of_request(request), self._lease)
            self._watch.never_began(attempt, endings.of_revocation(expired=bool(expired)))

    def end(self, task: Any, state: str | None, outcome: Any) -> None:
        """End the attempt that `begin` began for this task; `state` is None when something has unwound it."""
        entered = getattr(task.request, "livelog_entered", None)
        if entered is not None:
            task.request.livelog_entered = None
            leave(entered)
        begun = getattr(task.request, "livelog_begun", None)
        if begun is None:
            return
        task.request.livelog_begun = None
        writer, token = begun
        if writer is None:
            current.reset(token)
        elif self._capture is not None:
            if state is None:
                ending = endings.of_unwinding(sys.exc_info()[1])
            else:
                ending = endings.of_outcome(state, outcome, writer.reason)
            self._capture.end(writer, token, ending)

    def stop_process(self) -> None:
        """Close this process' journal and put its streams back. Harmless when done twice."""
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    def stop(self) -> None:
        """Leave: the shipper gets time to send the last lines. Harmless when done twice."""
        self.stop_process()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._supervisor is not None:
            self._supervisor.drain()
            self._supervisor = None
        self._settings = self._directory = None
        atexit.unregister(self.stop)

    @property
    def _lease(self) -> str:
        return self._directory.name if self._directory is not None else ""

    def _refuse(self, why: str) -> None:
        self._refused = True
        logger.error("livelog is off in this process: %s", why)

    def _say(self, word: endings.Word | None) -> None:
        if word is not None and self._watch is not None and self._watch.here:
            self._watch.say(word)

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


def _note(request: Any, reason: str) -> bool:
    """Keep a reason for the attempt that runs as this request; give whether there is one."""
    begun = getattr(request, "livelog_begun", None)
    if begun is None or begun[0] is None:
        return False
    begun[0].reason = reason
    return True


def _attempt(task_id: str, name: str, request: Any, run: Run, lease: str) -> Attempt:
    delivery = request.delivery_info or {}
    return Attempt(
        attempt=secrets.token_hex(8),
        lease=lease,
        task_id=str(task_id),
        name=name,
        worker=str(request.hostname or ""),
        pid=os.getpid(),
        queue=str(delivery.get("routing_key") or ""),
        root_id=str(request.root_id or ""),
        parent_id=str(request.parent_id or ""),
        group_id=str(request.group or ""),
        run_id=run.run_id,
        account=run.account,
        site=run.site,
        retries=request.retries or 0,
        redelivered=bool(delivery.get("redelivered")),
        started=utc(time_ns()),
    )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
