"""How many requests and sockets are served at once: in all, of an address, of a viewer. Pure.

What is beyond is refused at once, and costs those who are served nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from celery_livelog.web.refusal import Refusal

_RETRY_SECONDS = "5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that is served at once, of sockets and requests together."""

    total: int = 5000
    per_address: int = 2500
    per_viewer: int = 1500


class Caps:
    """Who holds how many places."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._addresses: Counter[str] = Counter()
        self._viewers: Counter[str] = Counter()
        self.taken = 0

    def take(self, address: str) -> Place:
        """A place for somebody at this address.

        :raises Refusal: when there is none.
        """
        if self.taken >= self._limits.total or self._addresses[address] >= self._limits.per_address:
            raise _too_many()
        self.taken += 1
        self._addresses[address] += 1
        return Place(self, address)

    def take_of_viewer(self, viewer: str) -> None:
        """One of a viewer's places; raises as `take` does."""
        if self._viewers[viewer] >= self._limits.per_viewer:
            raise _too_many()
        self._viewers[viewer] += 1

    def release(self, address: str, viewers: list[str]) -> None:
        """Give a place back."""
        self.taken -= 1
        _decrease(self._addresses, address)
        for viewer in viewers:
            _decrease(self._viewers, viewer)


class Place:
    """A place that is taken, until it is released."""

    def __init__(self, caps: Caps, address: str) -> None:
        self._caps: Caps | None = caps
        self._address = address
        self._viewers: list[str] = []

    def of_viewer(self, viewer: str) -> None:
        """Count it among those of a viewer, too, once that is known. Nobody in particular is not counted.

        :raises Refusal: when that viewer has too many.
        """
        if viewer and self._caps is not None and viewer not in self._viewers:
            self._caps.take_of_viewer(viewer)
            self._viewers.append(viewer)

    def release(self) -> None:
        """Leave it to others. Harmless when done twice."""
        if self._caps is not None:
            self._caps.release(self._address, self._viewers)
            self._caps = None


def _too_many() -> Refusal:
    return Refusal(429, "too many connections at once; try again later", {"Retry-After": _RETRY_SECONDS})


def _decrease(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]  # or every address that ever came would be remembered
