"""What a worker's console is told when a store fails: once that it does, and once that it works again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from celery_livelog.errors import report

#: So many times in so many seconds at most: a store that comes and goes must not fill the console.
_TIMES, _SECONDS = 5, 300.0


class Trouble:
    """Whether a store fails now, and what was said of it.

    :param name: the store, for messages.
    :param meanwhile: what its failing means for users, and what can be done about the error.
    """

    def __init__(self, name: str, meanwhile: Callable[[BaseException], str]) -> None:
        self._name = name
        self._meanwhile = meanwhile
        self._since = 0.0
        self._told = False
        self._when: deque[float] = deque(maxlen=_TIMES)

    def failed(self, error: BaseException) -> None:
        """The store has failed. Once may be chance and says little: a connection was closed. The next try tells."""
        now = time.monotonic()
        again, self._since = bool(self._since), self._since or now
        often = len(self._when) == _TIMES and now - self._when[0] < _SECONDS
        if not again or self._told or often:
            return
        self._told = True
        self._when.append(now)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        report(f"{self._name} cannot be written ({reason}); {self._meanwhile(error)}")

    def over(self) -> None:
        """The store works, still or again."""
        if self._told:
            report(f"{self._name} is written again, after {time.monotonic() - self._since:.0f} s")
        self._since, self._told = 0.0, False
