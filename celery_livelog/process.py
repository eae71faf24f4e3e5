"""Capture in one process: its journal, its descriptors, what stands in for ``sys.stdout``, which attempts run."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Sequence
from contextvars import Token
from pathlib import Path
from typing import Any

import msgspec

from celery_livelog import threads
from celery_livelog.attempts import Attempt
from celery_livelog.capture import Tee
from celery_livelog.descriptors import Descriptors
from celery_livelog.endings import Ending
from celery_livelog.errors import complain
from celery_livelog.frames import BEGIN, STDERR, STDOUT
from celery_livelog.journal import Journal
from celery_livelog.logs import ConsoleFilter, LogHandler
from celery_livelog.masking import masked
from celery_livelog.runs import Run
from celery_livelog.settings import Settings
from celery_livelog.spool import Doorbell, Lock
from celery_livelog.writer import AttemptWriter, current

_LOGGERS = ("", "celery.task")


class Capture:
    """All that livelog keeps in a process that runs tasks.

    :param directory: the worker's spool directory.
    :param one_at_a_time: whether the process runs one task at a time, so that its descriptors can be captured.
    :raises OSError: when the journal cannot be opened.
    """

    def __init__(self, directory: Path, settings: Settings, *, one_at_a_time: bool) -> None:
        self._settings = settings
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = Lock(directory, name)
        self._lock.take()
        self._doorbell = Doorbell(directory)
        self._journal = Journal(directory, name, settings.spool_max_bytes, self._doorbell.ring)
        self._descriptors = _descriptors(directory, name) if one_at_a_time and "fd" in settings.capture else None
        self._logs = LogHandler() if "logging" in settings.capture else None
        self._filter = ConsoleFilter(self._logs) if self._logs and not settings.tee else None
        self._tees: dict[int, Tee] = {}
        self._slots = 0
        self._forked = False
        threads.install()
        os.register_at_fork(after_in_child=self._after_fork)

    def begin(
        self, attempt: Attempt, *, run: Run | None = None, requeued: bool = False, redact: Sequence[str] | None = ()
    ) -> tuple[AttemptWriter, Token[AttemptWriter | None]]:
        """Start to capture an attempt on the running context; give its writer and what `end` needs.

        :param run: the run that somebody has begun and that it belongs to.
        :param requeued: whether Celery gives the task to the broker again when this process is killed.
        :param redact: the patterns of its task that match secrets; None hides everything.
        """
        known = msgspec.Raw(msgspec.json.encode(attempt))  # first of all: a name that is no text must stop us here
        self._stand_in()
        self._slots += 1
        engaged = self._engage()
        raw = self._descriptors.sizes if self._descriptors is not None and engaged else _no_raw_files
        paths = self._descriptors.paths if self._descriptors is not None and engaged else None
        writer = AttemptWriter(self._journal, self._slots, raw)
        writer.captures_descriptors = engaged
        secrets = {"mask": masked(), "redact": redact}
        begin = msgspec.json.encode({"attempt": known, "raw": paths, "run": run, "requeued": requeued, **secrets})
        self._journal.append(BEGIN, 0, self._slots, 0, raw(), begin, must=True)
        return writer, current.set(writer)

    def end(self, writer: AttemptWriter, token: Token[AttemptWriter | None], ending: Ending) -> None:
        """Write how the attempt ended and stop capturing it."""
        if self._forked:
            return  # a forked child that came back up the stack: the attempt is its parent's
        try:
            current.reset(token)
        except ValueError:
            current.set(None)  # begun in another context
        if self._descriptors is not None and writer.captures_descriptors:
            self._descriptors.release()
        writer.end(msgspec.json.encode(ending))

    def close(self) -> None:
        """Put everything back as it was; harmless when done twice."""
        threads.uninstall()
        for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
            tee = self._tees.get(stream)
            if tee is not None and tee is getattr(sys, name, None):
                setattr(sys, name, self._tees[stream].inner)
        for logger in map(logging.getLogger, _LOGGERS):
            if self._logs is not None:
                logger.removeHandler(self._logs)
            for handler in logger.handlers if self._filter else ():
                handler.removeFilter(self._filter)  # type: ignore[arg-type]
        if self._descriptors is not None:
            self._descriptors.close()
        self._journal.close()
        self._lock.release()
        self._doorbell.wake()

    def _stand_in(self) -> None:
        """See that our streams and handlers are in place: Celery puts its own there in every child, tasks may too."""
        self._place_streams()
        if self._logs is not None:
            self._place_handlers(self._logs)

    def _place_streams(self) -> None:
        for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
            inner = getattr(sys, name, None)
            if isinstance(inner, Tee):
                inner.passes = False
            elif name in self._settings.capture and inner is not None:
                setattr(sys, name, self._tee(inner, stream))

    def _place_handlers(self, logs: LogHandler) -> None:
        for logger in map(logging.getLogger, _LOGGERS):
            if logs not in logger.handlers:
                logger.handlers.insert(0, logs)
                if self._descriptors is not None:
                    self._descriptors.spare_handlers()
            if self._filter is not None:
                for handler in logger.handlers:
                    if handler is not logs:
                        handler.addFilter(self._filter)

    def _tee(self, inner: Any, stream: int) -> Tee:
        """A tee in front of a stream. One that a task has put something else in front of leaves the capture to this."""
        if stream in self._tees:
            self._tees[stream].passes = True
        tee = self._tees[stream] = Tee(inner, stream, self._onward(inner))
        return tee

    def _onward(self, inner: Any) -> Any:
        """Where a captured stream's text goes on to; see `Tee`."""
        if not self._settings.tee:
            return None
        console = self._descriptors.console(inner) if self._descriptors is not None else None
        return inner if console is None else console

    def _engage(self) -> bool:
        """Point the descriptors at raw files; a task that there is no room for goes on without."""
        if self._descriptors is None:
            return False
        try:
            self._descriptors.engage()
        except OSError as error:
            complain("descriptors 1 and 2 of a task are not captured", error)
            return False
        return True

    def _after_fork(self) -> None:
        """In a child that a task forked: what it prints goes the way of a subprocess' output where there is one."""
        self._forked = True
        writer = current.get()
        if writer is None:
            return
        writer.forget_held()
        if self._descriptors is not None and writer.captures_descriptors:
            shown = self._filter is None and self._descriptors.unspare_handlers()
            self._journal.divert(records=not shown)
            for tee in self._tees.values():
                tee.console = None


def _no_raw_files() -> tuple[int, int]:
    return 0, 0


def _descriptors(directory: Path, name: str) -> Descriptors | None:
    try:
        return Descriptors(directory, name)
    except OSError as error:
        complain("descriptors 1 and 2 are not captured in this process", error)
        return None
