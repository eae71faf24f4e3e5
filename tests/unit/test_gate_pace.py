"""Who is refused again and again is told later."""

from __future__ import annotations

import pytest

from celery_livelog.web import gate_pace
from celery_livelog.web.gate_pace import Pace


def test_many_refusals_are_told_later() -> None:
    """Those of one address; after a while of quiet it is as any other."""
    pace, at_once = Pace(), gate_pace._AT_ONCE
    assert [pace.refused("10.0.0.1", 5.0) for _ in range(at_once)] == [0.0] * at_once
    assert pace.refused("10.0.0.1", 5.0) > 0
    assert pace.refused("10.0.0.2", 5.0) == 0.0
    assert pace.unknown("10.0.0.1", 5.0) > 0
    assert pace.unknown("10.0.0.2", 5.0) == pace.unknown("10.0.0.3", 5.0) == 0.0
    assert pace.unknown("10.0.0.1", 6.0) == 0.0
    assert pace.refused("10.0.0.1", 6.0) == 0.0


def test_only_so_many_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were refused last."""
    monkeypatch.setattr(gate_pace, "_MOST", 2)
    monkeypatch.setattr(gate_pace, "_AT_ONCE", 1)
    pace = Pace()
    for address in ("a", "a", "b", "b", "a", "c"):
        pace.refused(address, 1.0)
    assert [pace.unknown(address, 1.0) > 0 for address in ("a", "b", "c")] == [True, False, True]
