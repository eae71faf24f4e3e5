"""Stages of a task: named, numbered steps that leave events in its log. Outside a task they only run your code."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from celery.exceptions import Ignore, TaskPredicate

from celery_livelog.counting import Counting
from celery_livelog.errors import said
from celery_livelog.events import count, shown, write
from celery_livelog.interrupts import is_interrupt
from celery_livelog.staged import staged
from celery_livelog.writer import AttemptWriter, Entered, current, innermost

_F = TypeVar("_F", bound=Callable[..., Any])


class stage:  # noqa: N801 - reads as a statement, ``with stage("Fetch"):``, and as a decorator
    """A step of a task: ``with stage("Fetch", pending=120) as s:`` or ``@stage("Compile")`` on a function.

    Lines that are printed within belong to it, also in threads and asyncio tasks that are started there. As a decorator
    it makes a stage of each call; that of a generator spans the iteration. An exception ends the stage as failed and
    goes on unchanged. Nothing that is given to its methods raises.

    :param name: what people call the step.
    :param pending: how many items it expects, if known.
    """

    def __init__(self, name: str, *, pending: int | None = None) -> None:
        self.name = name
        self.pending = pending
        self._entered: Entered | None = None
        self._counting: Counting | None = None
        #: Entered once more while it was not left: each is a stage of its own.
        self._again: list[stage] = []

    @property
    def number(self) -> int:
        """Its number in the attempt, from 1; 0 when it was not entered in a task."""
        return 0 if self._entered is None else self._entered.number

    def __enter__(self) -> stage:
        if self._entered is not None and not self._entered.left:
            again = stage(self.name, pending=self.pending)
            self._again.append(again)
            return again.__enter__()
        entered = self.begin()
        if entered is not None:
            innermost.set(entered)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        here, again = innermost.get(), [*self._again]  # another thread may leave it, too
        if again and here is not self._entered:
            mine = next((one for one in again if one._entered is here), again[-1])
            with suppress(ValueError):
                self._again.remove(mine)
            return mine.__exit__(kind, error, trace)
        entered = self._entered
        if entered is not None:
            if here is entered:  # another context, as when a generator is thrown away, has its own
                innermost.set(_not_left(entered.outer))
            self.end(error)
        return None

    def __call__(self, function: _F) -> _F:
        return staged(function, lambda: stage(self.name, pending=self.pending))

    def begin(self) -> Entered | None:
        """Begin it without being in it; None outside of a task."""
        self._result: Any = None
        self._started = monotonic()
        writer = current.get()
        if writer is None or writer.ended:
            self._entered = self._counting = None
            return None
        here = innermost.get()
        outer = here if here is not None and here.writer is writer else None
        self._entered = entered = Entered(writer, next(writer.stages), outer)
        self._counting = Counting(self._tell, self.pending)
        self._tell("stage_start", pending=None if self.pending is None else count(self.pending))
        return entered

    def end(self, error: BaseException | None = None) -> None:
        """End it, with what was raised in it. A generator that is not asked for more has not failed, nor a task that
        replaces itself; one that is retried or rejected leaves it open, and the end of its attempt says why.
        """
        entered, counting = self._entered, self._counting
        if entered is None or counting is None or entered.left:
            return
        entered.writer.flush_all()
        entered.left = True
        processed = counting.finish()
        ending = {"elapsed": int((monotonic() - self._started) * 1e6) / 1e6, "processed": processed}
        if error is None or isinstance(error, (GeneratorExit, Ignore)):
            self._tell("stage_complete", **ending, result=self._result)
        elif not isinstance(error, TaskPredicate):
            self._tell("stage_error", **ending, error=said(error), traceback=_traceback(error))

    def advance(self, n: int = 1, message: str = "") -> None:
        """Say that `n` more items are done."""
        if self._counting is not None:
            self._counting.add(n, message)

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Say that `done` of `total` items are done. Shown at most ten times a second; the last always is."""
        if self._counting is not None:
            self._counting.set(done, total, message)

    def result(self, value: Any) -> None:
        """Keep what the stage found: anything that JSON can hold; other values are kept as text."""
        self._result = value

    def trace(self, event: str, /, **data: Any) -> None:
        """Leave a structured event of your own."""
        if self._entered is not None:
            _trace(self._entered.writer, event, data, self._entered.number)

    def _tell(self, kind: str, **what: Any) -> None:
        entered = self._entered
        if entered is not None:
            write(entered.writer, {"type": kind, "stage": entered.number, "name": shown(self.name), **what})


def trace(event: str, /, **data: Any) -> None:
    """Leave a structured event of your own in the running task's log: ``trace("cache_miss", key=key)``."""
    writer = current.get()
    if writer is not None:
        here = innermost.get()
        _trace(writer, event, data, here.number if here is not None and here.writer is writer else None)


def _trace(writer: AttemptWriter, event: str, data: dict[str, Any], stage: int | None) -> None:
    write(writer, {"type": "trace", "event": shown(event), "data": data, "stage": stage})


def _not_left(entered: Entered | None) -> Entered | None:
    """The innermost of these stages that goes on: of two generators, that which began first may end first."""
    while entered is not None and entered.left:
        entered = entered.outer
    return entered


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception as fault:
        if is_interrupt(fault):
            raise
        return ""  # it was the error's own code
