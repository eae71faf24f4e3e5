"""What a task prints, on its way from ``sys.stdout`` and ``sys.stderr`` to the journal and to where it went before."""

from __future__ import annotations

import copy
import errno
import io
import logging
import os
import sys
from collections.abc import Iterable
from threading import get_ident
from typing import Any

from kombu.utils.encoding import safe_str

from celery_livelog.interrupts import is_interrupt
from celery_livelog.logs import taker
from celery_livelog.writer import AttemptWriter, current

_EMIT = logging.StreamHandler.emit.__code__


class Logged(str):
    """Text that is in the task's log already: a `Tee` shows it, and does not capture it again."""

    __slots__ = ()

    def __str__(self) -> str:
        return self  # what `print` writes

    def __add__(self, more: str) -> Logged:
        return Logged(super().__add__(more))


class Tee(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``: what a task writes is captured, and still goes where it went.

    It returns and raises what `inner` would.

    :param inner: what stood there before.
    :param console: where a task's text goes on to: `inner`, or the saved console when `inner` writes to a captured
        descriptor, or None for nowhere.
    """

    def __init__(self, inner: Any, stream: int, console: Any) -> None:
        self.inner = inner
        self.console = console
        self._stream = stream
        self._unended: set[int] = set()
        #: Whether another stands in front of this one now, and captures what comes here.
        self.passes = False

    def write(self, text: str, /) -> int:
        writer = current.get()
        if writer is None or writer.ended or self.passes:
            written = self.inner.write(text)
            return len(text) if written is None else written
        given: Any = text
        if not isinstance(given, str):
            return self._write_no_text(writer, given)
        caller = sys._getframe(1)
        if (type(text) is not str or self._unended) and self._is_logged(text):
            pass
        elif caller.f_code is not _EMIT or not _takes(caller.f_locals["record"]):
            try:
                writer.write(self._stream, text)
            except (MemoryError, RecursionError) as error:
                if is_interrupt(error):
                    raise
                writer.lost += text.count("\n")  # ours: without us there was room
        if self.console is None:
            return len(text)
        try:
            written = self.console.write(text)
        except Exception as error:
            if self._shown_otherwise(error, text):
                return len(text)
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this frame of ours
            raise
        return len(text) if written is None else written

    def _write_no_text(self, writer: AttemptWriter, value: Any) -> int:
        """Celery's stand-in shows whatever it is given; a real stream raises."""
        written: int = self.inner.write(value)
        writer.write(self._stream, safe_str(value))  # type: ignore[no-untyped-call]
        return written

    def _shown_otherwise(self, error: Exception, text: str) -> bool:
        """Whether an error is one of the saved console, which is ours, and has been dealt with."""
        if self.console is self.inner or self.console is None or is_interrupt(error):
            return False
        if isinstance(error, OSError) and error.errno == errno.EBADF:
            self.console = None  # the task has closed all descriptors
        elif isinstance(error, RuntimeError) and str(error).startswith("reentrant call"):
            os.write(self.console.fileno(), text.encode(self.console.encoding, "backslashreplace"))
        else:
            return False
        return True

    def _is_logged(self, text: str) -> bool:
        """Whether this is text that was logged, or the newline behind it, which `print` writes by itself."""
        thread = get_ident()
        ends = thread in self._unended and text == "\n"
        self._unended.discard(thread)
        if isinstance(text, Logged) and not text.endswith("\n"):
            self._unended.add(thread)
        return ends or isinstance(text, Logged)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        writer = current.get()
        if writer is None or writer.ended:
            target = self.inner
        else:
            writer.flush(self._stream)
            target = self.console
        if hasattr(target, "flush"):
            target.flush()

    def fileno(self) -> int:
        """The descriptor of this stream: Celery's own stand-in has none, which breaks ``subprocess.run(stdout=…)``."""
        return int(self.inner.fileno()) if hasattr(self.inner, "fileno") else self._stream

    def isatty(self) -> bool:
        return bool(self.inner.isatty())

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Close what stood here before, as without us."""
        self.inner.close()
        if self.console is not None:
            self.console = self.inner  # it knows what is to happen to what is written now

    def __del__(self) -> None:
        """Who lets go of this closes nothing, unlike with other files."""

    @property
    def closed(self) -> bool:
        return bool(getattr(self.inner, "closed", False))

    def detach(self) -> Any:
        """The stream of bytes, for whoever puts a text stream of their own around it."""
        if not hasattr(self.inner, "detach"):
            raise AttributeError(f"{type(self.inner).__name__!r} object has no attribute 'detach'")
        return self.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.inner, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return getattr(self.inner, "errors", None) or "backslashreplace"

    @property
    def buffer(self) -> TeeBytes:
        return TeeBytes(self, self._stream)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)  # of one that is not made yet
        if name == "reconfigure" and self.console is not self.inner is not None:
            return self._reconfigure
        return getattr(self.inner, name)

    def _reconfigure(self, **options: Any) -> None:
        self.inner.reconfigure(**options)
        if self.console is not None:
            self.console.reconfigure(**options)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A copy, where one can be made, is one of what stood here before."""
        return copy.copy, (self.inner,)


class TeeBytes(io.BufferedIOBase):
    """``sys.stdout.buffer`` of a `Tee`."""

    def __init__(self, tee: Tee, stream: int) -> None:
        self._tee = tee
        self._stream = stream

    def write(self, data: Any, /) -> int:
        with memoryview(data) as view:
            return self._write(view.cast("B"))

    def _write(self, data: memoryview) -> int:
        writer = current.get()
        if writer is None or writer.ended or self._tee.passes:
            target = self._tee.inner
        else:
            try:
                writer.write_bytes(self._stream, data)
            except (MemoryError, RecursionError) as error:
                if is_interrupt(error):
                    raise
                writer.lost += bytes(data).count(b"\n")
            target = self._tee.console
        if hasattr(target, "buffer"):
            target.flush()
            target.buffer.write(data)
            target.buffer.flush()
        elif target is not None:
            target.write(str(data, "utf-8", "backslashreplace"))
        return len(data)

    def flush(self) -> None:
        self._tee.flush()

    def fileno(self) -> int:
        return self._tee.fileno()

    def isatty(self) -> bool:
        return self._tee.isatty()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """See `Tee.close`."""
        self._tee.close()

    def __del__(self) -> None:
        """See `Tee`."""

    @property
    def closed(self) -> bool:
        return self._tee.closed


def _takes(record: logging.LogRecord) -> bool:
    """Whether a record that a log handler shows through a `Tee` is one that our own handler takes, now or before."""
    handler = taker(record.name)
    if handler is not None:
        handler.take(record)
    return handler is not None
