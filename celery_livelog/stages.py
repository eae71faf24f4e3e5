"""Stages of a task: named, numbered steps that leave events in its log. Outside a task they only run your code."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from functools import wraps
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from celery_livelog.errors import said
from celery_livelog.events import shown, write
from celery_livelog.writer import AttemptWriter, current

_F = TypeVar("_F", bound=Callable[..., Any])

#: Seconds between two progress events of a stage: more often than a person can follow.
_PROGRESS_SECONDS = 0.1


class stage:  # noqa: N801 - reads as a statement, ``with stage("Fetch"):``, and as a decorator
    """A step of a task: ``with stage("Fetch", pending=120) as s:`` or ``@stage("Compile")`` on a function.

    An exception ends the stage as failed and goes on unchanged.

    :param name: what people call the step.
    :param pending: how many items it expects, if known.
    """

    def __init__(self, name: str, *, pending: int | None = None) -> None:
        self.name = name
        self.pending = pending
        self.number = 0
        self._writer: AttemptWriter | None = None
        self._done = 0
        self._total = pending
        self._message = ""
        self._result: Any = None
        self._started = self._told = 0.0
        self._untold = False

    def __enter__(self) -> stage:
        self._writer = current.get()
        self._started = monotonic()
        if self._writer is not None:
            self._writer.stages += 1
            self.number = self._writer.stages
            self._tell("stage_start", pending=self.pending)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        if self._untold:
            self._tell_progress()
        ending = {"elapsed": round(monotonic() - self._started, 6), "processed": self._done}
        if error is None:
            self._tell("stage_complete", **ending, result=self._result)
        else:
            shown = "".join(traceback.format_exception(kind, error, trace))
            self._tell("stage_error", **ending, error=said(error), traceback=shown)

    def __call__(self, function: _F) -> _F:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def staged(*args: Any, **kwargs: Any) -> Any:
                with stage(self.name, pending=self.pending):
                    return await function(*args, **kwargs)

        else:

            @wraps(function)
            def staged(*args: Any, **kwargs: Any) -> Any:
                with stage(self.name, pending=self.pending):
                    return function(*args, **kwargs)

        return staged  # type: ignore[return-value]

    def advance(self, n: int = 1, message: str = "") -> None:
        """Say that `n` more items are done."""
        self.progress(self._done + n, self._total, message)

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Say that `done` of `total` items are done. Shown at most ten times a second; the last always is."""
        self._done, self._total, self._message = done, total, message
        self._untold = True
        now = monotonic()
        if self._writer is not None and now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            self._tell_progress()

    def result(self, value: Any) -> None:
        """Keep what the stage found: anything that JSON can hold."""
        self._result = value

    def trace(self, event: str, **data: Any) -> None:
        """Leave a structured event of your own."""
        if self._writer is not None:
            write(self._writer, {"type": "trace", "event": shown(event), "data": data, "stage": self.number})

    def _tell_progress(self) -> None:
        self._untold = False
        self._tell("stage_progress", done=self._done, total=self._total, message=shown(self._message))

    def _tell(self, kind: str, **what: Any) -> None:
        write(self._writer, {"type": kind, "stage": self.number, "name": shown(self.name), **what})
