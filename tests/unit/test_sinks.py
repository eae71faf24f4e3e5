"""A sink: all that is put is worked off in order, in its own thread; a store that fails is tried again, not lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import pairwise

import pytest

from celery_livelog.shipper.sinks import Sink
from tests.nodes.waiting import wait_for


class Store:
    """What a sink writes to; it fails while `failures` is above 0, after having dealt with one item."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.failures = 0
        self.tried: list[float] = []
        self.hold = threading.Event()
        self.hold.set()
        self.thread: threading.Thread | None = None

    def work(self, queue: deque[int]) -> None:
        self.tried.append(time.monotonic())
        self.thread = threading.current_thread()
        self.hold.wait(10)
        if self.failures:
            self.failures -= 1
            self.written.append(queue.popleft())
            raise OSError("away")
        while queue:
            self.written.append(queue.popleft())


@pytest.fixture
def store() -> Store:
    """A store that takes everything."""
    return Store()


def test_what_is_put_is_written_in_order(store: Store) -> None:
    """In the order of putting, in another thread, and the sink is idle when that is done."""
    sink = Sink("a store", store.work)
    for item in range(1000):
        sink.put(item)
    wait_for(lambda: sink.idle)
    assert store.written == list(range(1000))
    assert store.thread is not threading.current_thread()
    sink.close(10)


def test_putting_never_waits(store: Store) -> None:
    """However long a store takes, who puts goes on; the sink is not idle before the store is done."""
    store.hold.clear()
    sink = Sink("a store", store.work)
    sink.put(1)
    wait_for(lambda: store.tried)
    for item in range(2, 500):
        sink.put(item)
    assert not sink.idle
    assert store.written == []
    store.hold.set()
    wait_for(lambda: sink.idle)
    assert store.written == list(range(1, 500))
    sink.close(10)


def test_a_store_that_fails_is_tried_again(store: Store) -> None:
    """What it had not dealt with when it failed is tried again: each item once, in order."""
    store.failures = 2
    sink = Sink("a store", store.work)
    for item in range(10):
        sink.put(item)
    wait_for(lambda: sink.idle)
    assert store.written == list(range(10))
    sink.close(10)


def test_pauses_grow_whatever_is_put(store: Store) -> None:
    """A store that is away is asked ever more seldom, also while more and more is put."""
    sink: Sink[int]

    def work(queue: deque[int]) -> None:
        sink.put(0)
        store.failures = len(store.tried) < 3
        store.work(queue)

    sink = Sink("a store", work)
    sink.put(0)
    wait_for(lambda: len(store.tried) >= 4)
    pauses = [after - before for before, after in pairwise(store.tried[:4])]
    assert [pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True)] == [True] * 3
    sink.close(10)


def test_closing_works_off_what_is_there(store: Store) -> None:
    """What was put before the close is written; the thread ends."""
    store.hold.clear()
    sink = Sink("a store", store.work)
    for item in range(5):
        sink.put(item)
    store.hold.set()
    sink.close(10)
    assert store.written == [0, 1, 2, 3, 4]
    assert store.thread is not None
    assert not store.thread.is_alive()


def test_closing_does_not_wait_for_a_store_that_is_away(store: Store) -> None:
    """In the middle of a pause it ends at once."""
    store.failures = 100
    sink = Sink("a store", store.work)
    for item in range(100):
        sink.put(item)
    wait_for(lambda: len(store.tried) >= 4)  # the next pause is 0.8 s
    began = time.monotonic()
    sink.close(10)
    assert time.monotonic() - began < 0.7
    assert not sink.idle


def test_closing_waits_its_time_only(store: Store) -> None:
    """A store that hangs does not hold up the end for longer than that."""
    store.hold.clear()
    sink = Sink("a store", store.work)
    sink.put(1)
    began = time.monotonic()
    sink.close(0.05)
    assert time.monotonic() - began < 5
    store.hold.set()
