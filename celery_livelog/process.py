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
        self, attempt: Attempt, *, requeued: bool = False, redact: Sequence[str] | None = ()
    ) -> tuple[AttemptWriter, Token[AttemptWriter | None]]:
        """Start to capture an attempt on the running context; give its writer and what `end` needs.

        :param requeued: whether Celery gives the task to the broker again when this process is killed.
        :param redact: the patterns of its task that match secrets; None hides everything.
        """
        known = msgspec.Raw(msgspec.json.encode(attempt))  # first of all: a name that is no text must stop us here
        self._stand_in()
        self._slots += 1
        self._engage()
        raw = self._descriptors.sizes if self._descriptors is not None else _no_raw_files
        paths = self._descriptors.paths if self._descriptors is not None else None
        writer = AttemptWriter(self._journal, self._slots, raw)
        writer.captures_descriptors = self._descriptors is not None
        secrets = {"mask": masked(), "redact": redact}
        begin = msgspec.json.encode({"attempt": known, "raw": paths, "requeued": requeued, **secrets})
        self._journal.append(BEGIN, 0, self._slots, 0, raw(), begin, force=True)
        return writer, current.set(writer)

    def end(self, writer: AttemptWriter, token: Token[AttemptWriter | None], ending: Ending) -> None:
        """Write how the attempt ended and stop capturing it."""
        if self._forked:
            return  # a forked child that came back up the stack: the attempt is its parent's
        try:
            current.reset(token)
        except ValueError:
            current.set(None)  # begun in another context
        if self._descriptors is not None:
            self._descriptors.release()
        writer.end(msgspec.json.encode(ending))

    def close(self) -> None:
        """Put everything back as it was; harmless when done twice."""
        threads.uninstall()
        for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
            tee = self._tees.get(stream)
            if tee is not None and getattr(sys, name) is tee:
                setattr(sys, name, tee.inner)
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
        for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
            inner = getattr(sys, name)
            if name in self._settings.capture and inner is not None and not isinstance(inner, Tee):
                tee = Tee(inner, stream, self._onward(inner))
                self._tees[stream] = tee
                setattr(sys, name, tee)
        if self._logs is None:
            return
        for logger in map(logging.getLogger, _LOGGERS):
            if self._logs not in logger.handlers:
                logger.handlers.insert(0, self._logs)
                if self._descriptors is not None:
                    self._descriptors.spare_handlers()
            if self._filter is not None:
                for handler in logger.handlers:
                    if handler is not self._logs:
                        handler.addFilter(self._filter)

    def _onward(self, inner: Any) -> Any:
        """Where a captured stream's text goes on to; see `Tee`."""
        if not self._settings.tee:
            return None
        fd = self._descriptors.writes_to_console(inner) if self._descriptors else 0
        return self._descriptors.console[fd] if self._descriptors and fd else inner

    def _engage(self) -> None:
        """Point the descriptors at the raw files; a process that has no more descriptors goes on without."""
        if self._descriptors is not None:
            try:
                self._descriptors.engage()
            except OSError as error:
                complain("descriptors 1 and 2 are not captured in this process", error)
                self._descriptors = None

    def _after_fork(self) -> None:
        """In a child that a task forked: what it prints goes the way of a subprocess' output where there is one."""
        self._forked = True
        writer = current.get()
        if writer is None:
            return
        writer.forget_held()
        if self._descriptors is not None:
            self._journal.divert()
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
