"""How soon those are told who are refused again and again: guessing takes time, and takes none from others. Pure."""

from __future__ import annotations

from collections import OrderedDict

from celery_livelog.viewer.allowance import Allowance

#: Refusals of an address that are told at once: in a row, and a second. More than people and their mistakes need.
_AT_ONCE, _A_SECOND = 100, 10
#: Seconds that the others wait.
_DELAY = 0.5
#: Addresses that are remembered.
_MOST = 10_000


class Pace:
    """Remembers who was refused."""

    def __init__(self) -> None:
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()

    def refused(self, address: str, now: float) -> float:
        """Somebody at this address is refused; give the seconds until that is told.

        :param now: seconds on a clock that only goes forward.
        """
        allowance = self._allowances.pop(address, None) or Allowance(_AT_ONCE, _A_SECOND, now)
        self._allowances[address] = allowance
        if len(self._allowances) > _MOST:
            self._allowances.popitem(last=False)
        return 0.0 if allowance.take(now) else _DELAY

    def unknown(self, address: str, now: float) -> float:
        """Somebody at this address comes who is not known yet; give the seconds until they may say who they are."""
        allowance = self._allowances.get(address)
        return 0.0 if allowance is None or allowance.left(now) >= 1 else _DELAY
