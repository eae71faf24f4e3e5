"""Attempts that are archived, but not yet settled in the other stores: until then their journal stays.

A shipper that is killed before leaves them to the next one, which writes what is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Settling:
    """Counts what is still to be written of each attempt. May be called from any thread.

    :param settled: called with the id of an attempt of which nothing is left to be written.
    """

    def __init__(self, settled: Callable[[str], None]) -> None:
        self._settled = settled
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._left)

    def expect(self, attempt: str, count: int) -> None:
        """So many writes settle the attempt."""
        with self._lock:
            self._left[attempt] = count

    def written(self, attempt: str) -> None:
        """One of them is done."""
        with self._lock:
            left = self._left.get(attempt, 0) - 1
            if left > 0:
                self._left[attempt] = left
            settled = self._left.pop(attempt, None) is not None if left == 0 else False
        if settled:
            self._settled(attempt)

    def give_up(self) -> None:
        """Wait no longer: the journals are needed for output."""
        with self._lock:
            given_up, self._left = list(self._left), {}
        for attempt in given_up:
            self._settled(attempt)
