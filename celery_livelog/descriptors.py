"""Descriptors 1 and 2 of a process that runs one task at a time: C code, ``os.write``, subprocesses.

While a task runs they point at two append-only raw files: whoever writes never waits nor gets EPIPE, C code that prints
under the GIL cannot deadlock, and nothing is lost with the process. The files' sizes place what was written among
the journal's records. The shipper reads, forwards and punches them out.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from celery_livelog import files, raw_places
from celery_livelog.frames import STDERR, STDOUT
from celery_livelog.interrupts import is_interrupt


class Descriptors:
    """The two raw files of this process and the saved console.

    :param directory: where the raw files lie when shared memory has no room.
    :raises OSError: when descriptors or files cannot be had.
    """

    def __init__(self, directory: Path, process: str) -> None:
        self._place = raw_places.raw_place(directory)
        self._process = process
        self._saved = {fd: files.aside(os.dup(fd)) for fd in (STDOUT, STDERR)}
        self._raw: dict[int, int] = {}
        self._raw_out = self._raw_err = -1
        self._depth = 0
        self._pairs = 0
        #: Where the raw files are, by the name of their stream.
        self.paths: dict[str, str] = {}
        self._spared: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

    def engage(self) -> None:
        """Point 1 and 2 at raw files that no process of an earlier task can have.

        :raises OSError: when there is no room for them; then 1 and 2 stay as they are.
        """
        _flush_buffers()  # what was printed before is not this task's
        if self._depth == 0:
            self.paths = self._fresh()
            for fd, raw in self._raw.items():
                os.dup2(raw, fd)
        self._depth += 1

    def release(self) -> None:
        """Point 1 and 2 back at the console, after what the process itself has buffered for them is out."""
        _flush_buffers()
        self._depth -= 1
        if self._depth == 0:
            for fd, saved in self._saved.items():
                try:
                    os.dup2(saved, fd)
                except OSError:
                    pass  # the task has closed it: what comes now is shown as raw output

    def sizes(self) -> tuple[int, int]:
        """How much was ever written to the raw files of stdout and stderr, in bytes."""
        try:
            return _lseek(self._raw_out, 0, _END), _lseek(self._raw_err, 0, _END)
        except OSError as error:
            if is_interrupt(error):
                raise
            return self._sizes_of_closed()

    def console(self, stream: Any) -> TextIO | None:
        """For a text stream that writes to 1 or 2, one like it that writes to the saved console instead."""
        try:
            saved = self._saved.get(stream.fileno())
        except (AttributeError, OSError, ValueError):
            return None
        if saved is None:
            return None
        encoding, errors = (getattr(stream, name, None) for name in ("encoding", "errors"))
        return open(saved, "w", 1, encoding or "utf-8", errors or "backslashreplace", closefd=False)

    def spare_handlers(self) -> None:
        """Move log handlers from descriptors 1 and 2 to the saved console: their records are captured as records."""
        loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
        for handler in {handler for logger in loggers for handler in logger.handlers}:
            if isinstance(handler, logging.StreamHandler) and (console := self.console(handler.stream)):
                self._spared.append((handler, handler.stream))
                handler.setStream(console)

    def unspare_handlers(self) -> bool:
        """Move them back, in a forked child, whose records are raw output; give whether there were any."""
        for handler, stream in self._spared:
            handler.stream = stream  # `setStream` would take a lock that another thread may have held
        return bool(self._spared)

    def close(self) -> None:
        """Give 1 and 2 back to the console for good. Harmless when done twice."""
        if self._depth:
            self._depth = 1
            self.release()
        for raw in self._raw.values():
            try:
                os.close(raw)
            except OSError:
                pass  # the task has done it
        self._raw = {}

    def _sizes_of_closed(self) -> tuple[int, int]:
        """The same when the task has closed our descriptors: the files are still there, behind 1 and 2."""
        try:
            for fd, path in zip((STDOUT, STDERR), self.paths.values(), strict=True):
                new = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                self._raw[fd] = files.in_place_of(self._raw[fd], new)
            self._raw_out, self._raw_err = self._raw[STDOUT], self._raw[STDERR]
            return _lseek(self._raw_out, 0, _END), _lseek(self._raw_err, 0, _END)
        except (OSError, KeyError):
            return 0, 0

    def _fresh(self) -> dict[str, str]:
        """New raw files, 16 µs a task: nobody can tell for sure whether a process was left behind with the old ones."""
        self._pairs += 1
        paths = {}
        for fd, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
            path = raw_places.raw_path(self._place, self._process, f"{self._pairs}.{name}")
            new = files.private_file(path, os.O_RDWR | os.O_APPEND)
            self._raw[fd] = files.in_place_of(self._raw[fd], new) if fd in self._raw else new
            paths[name] = str(path)
        self._raw_out, self._raw_err = self._raw[STDOUT], self._raw[STDERR]
        return paths


def _flush_buffers() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass
    for stdio in _STDIO:
        _LIBC.fflush(stdio)


def _stdio() -> list[ctypes.c_void_p]:
    """C's own stdout and stderr: ``printf`` holds back what it writes to a file. Only these: others may be locked."""
    try:
        return [ctypes.c_void_p.in_dll(_LIBC, name) for name in ("stdout", "stderr")]
    except (ValueError, AttributeError):
        return []


_lseek, _END = os.lseek, os.SEEK_END  # looked up once: `sizes` is asked for every record
_LIBC = ctypes.CDLL(None)
_STDIO = _stdio()
