"""How far a stage has come. Any thread may say so; it is told at most ten times a second, and the last always is."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any

from celery_livelog import pace
from celery_livelog.events import count, shown

_NUMBERS = frozenset({int, float})


class Counting:
    """The items of one stage.

    :param tell: leaves an event with these fields in the log.
    :param total: how many items there are, if known.
    """

    def __init__(self, tell: Callable[..., None], total: Any) -> None:
        self._tell = tell
        self._done: dict[int, float] = {}  # by thread, so that no two add to the same number
        self._total = total
        self._message: Any = ""
        self._held = self._over = False
        self._told = 0.0

    def add(self, n: Any, message: Any) -> None:
        """So many more are done."""
        thread = get_ident()
        add = n if type(n) in _NUMBERS else count(n) or 0
        try:
            self._done[thread] = self._done.get(thread, 0) + add
        except OverflowError:
            pass  # a float beside an int that is too large for one
        self._message = message
        self._tell_or_hold()

    def set(self, done: Any, total: Any, message: Any) -> None:
        """So many are done; of `total`, unless that is None."""
        self._done = {get_ident(): done if type(done) in _NUMBERS else count(done) or 0}
        self._message = message
        if total is not None:
            self._total = total
        self._tell_or_hold()

    def tell_held(self) -> bool:
        """See `pace.Held`."""
        if self._held and not self._over and self._is_due():
            self._tell_all()
        return self._held

    def finish(self) -> int:
        """The stage is over: tell what was held back; give how many are done."""
        self._over = True
        if self._held:
            self._tell_all()
        return self._sum()

    def _tell_or_hold(self) -> None:
        if self._over:
            return
        if self._is_due():
            self._tell_all()
        elif not self._held:
            self._held = True
            pace.later(self)

    def _is_due(self) -> bool:
        now = monotonic()
        due = now - self._told >= pace.SECONDS
        if due:
            self._told = now
        return due

    def _tell_all(self) -> None:
        self._held = False
        total = None if self._total is None else count(self._total)
        self._tell("stage_progress", done=self._sum(), total=total, message=shown(self._message))

    def _sum(self) -> int:
        try:
            return count(sum(self._done.copy().values())) or 0
        except OverflowError:
            return 0
