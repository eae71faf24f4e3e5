"""How much one connection may send in a time. Pure; the time is passed in."""

from __future__ import annotations


class Bucket:
    """Lets through so much a second, and as much at once as comes together in a while.

    :param rate: how much a second.
    :param seconds: how long the unused may come together.
    """

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate = rate
        self._most = rate * seconds
        self._there = self._most
        self._at = 0.0

    def take(self, amount: float, now: float) -> float:
        """Take as much; give the seconds to wait until that was there."""
        if self._at:
            self._there = min(self._most, self._there + (now - self._at) * self._rate)
        self._at = now
        self._there -= amount
        return max(0.0, -self._there / self._rate)
