"""How much a connection may send in a time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.ingest import inbox
from celery_livelog.ingest.inbox import Inbox
from celery_livelog.ingest.limits import Bucket


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 1000)), min_size=1, max_size=50))
def test_no_more_than_the_rate_in_the_long_run(taken: list[tuple[float, int]]) -> None:
    """Who waits as long as it is told has sent no more than the rate, and what may come at once."""
    bucket, now, total = Bucket(100.0, 3.0), 1.0, 0
    for pause, amount in taken:
        now += pause
        total += amount
        now += bucket.take(amount, now)
        assert total <= 100.0 * (now - 1.0) + 300.0 + 1e-6


def test_a_slow_sender_never_waits() -> None:
    """One that stays below the rate is not held up."""
    bucket = Bucket(100.0, 3.0)
    assert [bucket.take(10, 1.0 + number / 10) for number in range(1000)] == [0.0] * 1000


def test_a_flood_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is taken than there is room for, until somebody deals with it; all of it arrives in order."""
    monkeypatch.setattr(inbox, "_MOST", 10)

    async def flood() -> list[str | bytes]:
        there, found = Inbox(), list[str | bytes]()

        async def send() -> None:
            for number in range(1000):
                await there.put(str(number))
            there.close()

        sending = asyncio.create_task(send())
        await asyncio.sleep(0)
        while messages := await there.take():
            assert len(messages) <= 10
            found += messages
            await asyncio.sleep(0)
        await sending
        return found

    assert asyncio.run(flood()) == [str(number) for number in range(1000)]
