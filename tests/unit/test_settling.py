"""What is still to be written of archived attempts: each is settled once, at the last write, or given up."""

from __future__ import annotations

from celery_livelog.shipper.settling import Settling


def test_settled_when_the_last_is_written() -> None:
    """In whatever order; what was not expected, or comes again, changes nothing."""
    settled: list[str] = []
    settling = Settling(settled.append)
    settling.expect("one", 2)
    settling.expect("two", 1)
    settling.written("one")
    settling.written("unknown")
    assert (settled, bool(settling)) == ([], True)
    settling.written("two")
    settling.written("one")
    settling.written("one")
    assert (settled, bool(settling)) == (["two", "one"], False)


def test_given_up() -> None:
    """When the journals are needed, nobody waits; what is written later settles nothing twice."""
    settled: list[str] = []
    settling = Settling(settled.append)
    for name in ("one", "two"):
        settling.expect(name, 2)
    settling.give_up()
    settling.written("one")
    settling.written("one")
    assert (settled, bool(settling)) == (["one", "two"], False)
