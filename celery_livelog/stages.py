"""Stages of a task: named, numbered steps that leave events in its log. Outside a task they only run your code."""

from __future__ import annotations

import inspect
import json
import operator
import re
import traceback
from collections.abc import Callable
from functools import wraps
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from celery_livelog.errors import said
from celery_livelog.interrupts import is_interrupt
from celery_livelog.writer import AttemptWriter, current

_F = TypeVar("_F", bound=Callable[..., Any])

#: Seconds between two progress events of a stage: more often than a person can follow.
_PROGRESS_SECONDS = 0.1
#: Characters of an event; beyond that, only the first of each text, result and data are kept.
_EVENT_CHARACTERS = 1024 * 1024
_SHOWN_OF_LARGE = 10_000
_COUNT_LIMIT = 1 << 63


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
            self._write({"type": "trace", "event": _shown(event), "data": data, "stage": self.number})

    def _tell_progress(self) -> None:
        self._untold = False
        self._tell("stage_progress", done=self._done, total=self._total, message=_shown(self._message))

    def _tell(self, kind: str, **what: Any) -> None:
        self._write({"type": kind, "stage": self.number, "name": _shown(self.name), **what})

    def _write(self, event: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.ended:
            self._writer.event(_encoded(event))


def _encoded(event: dict[str, Any]) -> bytes:
    """An event as JSON that any reader takes; what JSON cannot hold is shown as text."""
    try:
        text = json.dumps(event, default=_plain, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        if is_interrupt(error):
            raise
        text = ""  # odd keys, NaN, circles
    if not text or len(text) > _EVENT_CHARACTERS:
        text = json.dumps({key: _simple(value) for key, value in event.items()}, ensure_ascii=False)
    return _SURROGATES.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text).encode()


def _plain(value: Any) -> int | str:
    """A value that JSON does not know: as a number if it is a whole one, of another library, else as text."""
    try:
        return operator.index(value)
    except Exception as error:
        if is_interrupt(error):
            raise
        return _shown(value)  # it was the value's own code


def _simple(value: Any) -> int | float | str | None:
    if value is None or (isinstance(value, (int, float)) and abs(value) < _COUNT_LIMIT):
        return value
    return _shown(value)[:_SHOWN_OF_LARGE]


def _shown(value: Any) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception as error:
        if is_interrupt(error):
            raise
        return f"<{type(value).__name__}>"  # it was the value's own code


_SURROGATES = re.compile("[\ud800-\udfff]")
