"""What is archived, but not yet settled in the other stores: until then its journal stays.

A shipper that is killed before leaves them to the next one, which writes what is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Settling(Generic[K]):
    """Counts what is still to be written of each: an attempt, or a part of one. May be called from any thread.

    :param settled: called with that of which nothing is left to be written.
    """

    def __init__(self, settled: Callable[[K], None]) -> None:
        self._settled = settled
        self._left: dict[K, int] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._left)

    def expect(self, archived: K, count: int) -> None:
        """So many writes settle it."""
        with self._lock:
            self._left[archived] = count

    def written(self, archived: K) -> None:
        """One of them is done."""
        with self._lock:
            left = self._left.get(archived, 0) - 1
            if left > 0:
                self._left[archived] = left
            settled = self._left.pop(archived, None) is not None if left == 0 else False
        if settled:
            self._settled(archived)

    def give_up(self) -> None:
        """Wait no longer: the journals are needed for output."""
        with self._lock:
            given_up, self._left = list(self._left), {}
        for archived in given_up:
            self._settled(archived)
