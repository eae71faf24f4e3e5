"""When to ask whether a task of which nothing comes is lost with its worker."""

from __future__ import annotations

from time import monotonic

#: Seconds between two questions whether the worker of a quiet task is lost: leases are renewed more often than that.
_LOST_SECONDS = 15.0


class Patience:
    """When to ask whether a quiet task's worker is lost: two looks have to agree, Redis may just have come back."""

    def __init__(self) -> None:
        self._next = monotonic() + _LOST_SECONDS
        self._before = False

    def over(self) -> bool:
        """Whether it is time to look."""
        return monotonic() >= self._next

    def confirmed(self, *, lost: bool) -> bool:
        """What this look has shown; whether it is certain now."""
        self._next = monotonic() + _LOST_SECONDS
        self._before, confirmed = lost, lost and self._before
        return confirmed
