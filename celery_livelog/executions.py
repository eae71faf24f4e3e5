"""What Celery says of tasks in this process, turned into attempts: that they begin, that they end, and why."""

from __future__ import annotations

import fnmatch
import os
import secrets
import sys
from contextvars import Token
from time import time_ns
from typing import Any

from celery_livelog import endings
from celery_livelog.attempts import Attempt
from celery_livelog.lifecycle import Lifecycle
from celery_livelog.masking import patterns_of
from celery_livelog.records import utc
from celery_livelog.run_context import current_run, leave, of_request
from celery_livelog.runs import Run
from celery_livelog.writer import AttemptWriter, current


class Executions:
    """The tasks that this process runs or, as a worker's main process, has run by others.

    :param lifecycle: what livelog has started here.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.lifecycle = lifecycle
        self._wanted: dict[str, bool] = {}
        self._patterns: dict[str, list[str] | None] = {}

    def begin(self, task_id: str, task: Any) -> None:
        """Begin an attempt on the running context."""
        begun: tuple[AttemptWriter | None, Token[AttemptWriter | None]] | None = None
        run = of_request(task.request)
        task.request.livelog_entered = current_run.set(run)
        if self.lifecycle.capture is None:
            self.lifecycle.start_process(task.app, one_at_a_time=False)
        if self.lifecycle.capture is not None and self._wants(task):
            if task.name not in self._patterns:
                self._patterns[task.name] = patterns_of(task)
            begun = self.lifecycle.capture.begin(
                _attempt(task_id, task.name, task.request, run, self.lifecycle.lease),
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
        elif self.lifecycle.watch is not None and self.lifecycle.watch.here and self._wants(task):
            attempt = _attempt(request.id, task.name, request, of_request(request), self.lifecycle.lease)
            self.lifecycle.watch.never_began(attempt, endings.of_revocation(expired=bool(expired)))

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
        elif self.lifecycle.capture is not None:
            if state is None:
                ending = endings.of_unwinding(sys.exc_info()[1])
            else:
                ending = endings.of_outcome(state, outcome, writer.reason)
            self.lifecycle.capture.end(writer, token, ending)

    def _say(self, word: endings.Word | None) -> None:
        if word is not None and self.lifecycle.watch is not None and self.lifecycle.watch.here:
            self.lifecycle.watch.say(word)

    def _wants(self, task: Any) -> bool:
        """Whether this task's output is wanted, by its own ``livelog=False`` and by name."""
        wanted = self._wanted.get(task.name)
        if wanted is None and self.lifecycle.settings is not None:
            include, exclude = self.lifecycle.settings.include, self.lifecycle.settings.exclude
            named = (not include or _matches(task.name, include)) and not _matches(task.name, exclude)
            wanted = self._wanted[task.name] = named and getattr(task, "livelog", True) is not False
        return bool(wanted)


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
