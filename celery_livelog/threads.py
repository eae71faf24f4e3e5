"""Threads and executors that a task starts belong to it: they carry `writer.current` and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from typing import Any

from celery_livelog.writer import AttemptWriter, current

_start = threading.Thread.start
_submit = ThreadPoolExecutor.submit


def install() -> None:
    """Make `threading.Thread` and `ThreadPoolExecutor` carry the attempt. Harmless when done twice."""
    threading.Thread.start = _carrying_start  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = _carrying_submit  # type: ignore[assignment, method-assign]


def uninstall() -> None:
    """Undo `install`, unless somebody has put theirs on top."""
    if threading.Thread.start is _carrying_start:
        threading.Thread.start = _start  # type: ignore[method-assign]
    if ThreadPoolExecutor.submit is _carrying_submit:
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]


def _within(writer: AttemptWriter, call: Callable[..., Any]) -> Callable[..., Any]:
    def carried(*args: Any, **kwargs: Any) -> Any:
        token = current.set(writer)
        try:
            return call(*args, **kwargs)
        finally:
            current.reset(token)

    return carried


@wraps(_start)
def _carrying_start(self: threading.Thread) -> None:
    writer = current.get()
    if writer is not None:
        self.run = _within(writer, self.run)  # type: ignore[method-assign]
    _start(self)


@wraps(_submit)  # type: ignore[arg-type]
def _carrying_submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    writer = current.get()
    return _submit(self, fn if writer is None else _within(writer, fn), *args, **kwargs)
