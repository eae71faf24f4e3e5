"""What a task prints, on its way from ``sys.stdout`` and ``sys.stderr`` to the journal and to where it went before."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable
from threading import get_ident
from typing import Any

from celery_livelog.logs import taker
from celery_livelog.writer import current

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

    :param inner: what stood there before.
    :param console: where a task's text goes on to: `inner`, or the saved console when `inner` writes to a captured
        descriptor, or None for nowhere.
    """

    def __init__(self, inner: Any, stream: int, console: Any) -> None:
        self.inner = inner
        self.console = console
        self._stream = stream
        self._unended: set[int] = set()

    def write(self, text: str, /) -> int:
        writer = current.get()
        if writer is None or writer.ended:
            written = self.inner.write(text)
            return len(text) if written is None else written
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        caller = sys._getframe(1)
        if (type(text) is not str or self._unended) and self._is_logged(text):
            pass
        elif caller.f_code is not _EMIT or not _takes(caller.f_locals["record"]):
            writer.write(self._stream, text)
        if self.console is not None:
            self.console.write(text)
        return len(text)

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
        """A task that closes its stdout does not close the worker's."""

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
        return getattr(self.inner, name)


class TeeBytes(io.BufferedIOBase):
    """``sys.stdout.buffer`` of a `Tee`."""

    def __init__(self, tee: Tee, stream: int) -> None:
        self._tee = tee
        self._stream = stream

    def write(self, data: Any, /) -> int:
        data = bytes(data)
        writer = current.get()
        if writer is None or writer.ended:
            target = self._tee.inner
        else:
            writer.write_bytes(self._stream, data)
            target = self._tee.console
        if hasattr(target, "buffer"):
            target.flush()
            target.buffer.write(data)
            target.buffer.flush()
        elif target is not None:
            target.write(data.decode("utf-8", "backslashreplace"))
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


def _takes(record: logging.LogRecord) -> bool:
    """Whether a record that a log handler shows through a `Tee` is one that our own handler takes, now or before."""
    handler = taker(record.name)
    if handler is not None:
        handler.take(record)
    return handler is not None
