"""How often somebody may do something: now and then at once, in the long run so often a second. Pure."""

from __future__ import annotations


class Allowance:
    """An allowance that grows with time.

    :param most: how much there is at first, and ever.
    :param rate: what comes back in a second.
    """

    def __init__(self, most: float, rate: float, now: float) -> None:
        self._most = self._left = most
        self._rate = rate
        self._at = now

    def take(self, now: float) -> bool:
        """Take one; False when there is none.

        :param now: seconds on a clock that only goes forward.
        """
        if self.left(now) < 1:
            return False
        self._left -= 1
        return True

    def left(self, now: float) -> float:
        """How much there is."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left

    def give(self) -> None:
        """Give one more."""
        self._left = min(self._most, self._left + 1)
