"""A sink takes what the shipper has to a store, in its own thread, at its own pace, with its own back-off."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from celery_livelog.shipper.trouble import Trouble

T = TypeVar("T")

#: Seconds from a failure to the next try: at first; at most, where somebody waits to see it; at most else.
_FIRST_PAUSE, _HURRIED_PAUSE, _LONGEST_PAUSE = 0.1, 1.0, 5.0
_UNHURRIED = 10  # as nice(1) counts


class Sink(Generic[T]):
    """A queue and the thread that works it off.

    :param name: what is written, for messages.
    :param hurried: whether somebody waits to see it; else the thread yields to whatever else wants the processor.
    :param gather: seconds to wait before each piece of work, so that more comes together.
    :param meanwhile: what a failure means for users and what can be done about its error, for messages.
    :param work: takes from the left of the queue what it has dealt with. When it raises, what it left is tried again
        after a pause; the other sinks don't notice.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[deque[T]], None],
        *,
        hurried: bool = False,
        gather: float = 0.0,
        meanwhile: Callable[[BaseException], str] = lambda error: "it is tried again, and nothing is lost",
    ) -> None:
        self._work = work
        self._trouble = Trouble(name, meanwhile)
        self._queue: deque[T] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._busy = False
        self._hurried = hurried
        self._gather = gather
        self._thread = threading.Thread(target=self._run, name=f"livelog-{name}", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand something over; never waits."""
        self._queue.append(item)
        self._wake.set()

    @property
    def waiting(self) -> Sequence[T]:
        """What is not dealt with yet, first come first; to be looked at only."""
        return self._queue

    @property
    def idle(self) -> bool:
        """Whether all that was handed over is dealt with."""
        return not self._queue and not self._busy

    def close(self, timeout: float) -> None:
        """Stop after the queue is empty or the time, in seconds, is over."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        if not self._hurried and sys.platform == "linux":  # where a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _UNHURRIED)
        pause = _FIRST_PAUSE
        while True:
            self._wake.wait()
            self._wake.clear()
            self._busy = True
            while self._queue:
                if self._gather:
                    self._closing.wait(self._gather)
                try:
                    self._work(self._queue)
                    pause = _FIRST_PAUSE
                    self._trouble.over()
                except Exception as error:  # noqa: BLE001 - whatever a store raises: it must not end the thread
                    self._trouble.failed(error)
                    if self._closing.wait(pause):  # not `_wake`: whatever is put meanwhile must not hurry it
                        break
                    pause = min(2 * pause, _HURRIED_PAUSE if self._hurried else _LONGEST_PAUSE)
            self._busy = False
            if self._closing.is_set():
                return
