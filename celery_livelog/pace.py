"""Tells the progress that was held back when no more came: a stage that stands still shows where it stands.

One thread of the process looks eight times a second while some stage has untold progress, and ends when there has
been none for a second. It holds no lock, so a task may fork at any time; a forked child tells nothing of its parent's.
"""

from __future__ import annotations

import _thread
import os
import time
from contextlib import suppress
from typing import Protocol

#: Seconds between two progress events of a stage: with the first and the last one, no more than ten in a second.
SECONDS = 0.125
#: Looks without anything to tell after which the thread ends: beginning one takes the task some 50 µs.
_IDLE_LOOKS = 10


class Held(Protocol):
    """What holds back progress."""

    def tell_held(self) -> bool:
        """Tell what was held back, if it is due; give whether something still is."""


_held: dict[Held, None] = {}
_looking = 0


def later(held: Held) -> None:
    """See that what this holds back is told when it is due."""
    global _looking
    _held[held] = None
    if _looking != os.getpid():
        _looking = os.getpid()
        try:
            _thread.start_new_thread(_look, ())
        except RuntimeError:
            _looking = 0  # no more threads: the next progress, or the stage's end, tells it


def _look() -> None:
    global _looking
    idle = 0
    while idle < _IDLE_LOOKS:
        # An event to wait for has a lock. By its module, since gevent puts its own there.
        time.sleep(SECONDS)  # noqa: TID251
        idle = 0 if _held else idle + 1
        for held in list(_held):
            _held.pop(held, None)  # first: what is held back from now on is noted anew
            with suppress(Exception):
                if held.tell_held():
                    _held[held] = None
    _looking = 0
    if _held:  # it came in between
        later(next(iter(_held)))


os.register_at_fork(after_in_child=_held.clear)
