"""Threads and executors of a task belong to it, and to it alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import pytest

from celery_livelog import threads
from celery_livelog.writer import AttemptWriter, current
from tests.unit.journals import begin, open_journal

other: ContextVar[str] = ContextVar("other", default="unset")


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """Threads carry the attempt."""
    threads.install()
    yield
    threads.uninstall()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AttemptWriter]:
    """The running task's writer."""
    journal = open_journal(tmp_path)
    writer = begin(journal)
    token = current.set(writer)
    yield writer
    current.reset(token)
    journal.close()


def test_a_thread_carries_the_attempt(writer: AttemptWriter) -> None:
    """The thread's own threads too; nothing else of the context goes along."""
    seen: list[object] = []

    def outer() -> None:
        seen.append((current.get(), other.get()))
        inner = threading.Thread(target=lambda: seen.append(current.get()))
        inner.start()
        inner.join()

    token = other.set("the task's")
    thread = threading.Thread(target=outer)
    thread.start()
    thread.join()
    other.reset(token)
    assert seen == [(writer, "unset"), writer]


def test_a_subclass_with_its_own_run(writer: AttemptWriter) -> None:
    """Also timers and threads that override `run`, with their arguments."""
    seen: list[object] = []

    class Own(threading.Thread):
        def run(self) -> None:
            seen.append(current.get())

    timer = threading.Timer(0.0, lambda word: seen.append((word, current.get())), args=("word",))
    for thread in (Own(), timer):
        thread.start()
        thread.join()
    assert seen == [writer, ("word", writer)]


def test_an_executor_carries_the_attempt_of_each_call(writer: AttemptWriter) -> None:
    """A thread of a pool that lives longer than a task belongs to whoever has submitted what it does."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(current.get).result() is writer
        token = current.set(None)
        assert pool.submit(current.get).result() is None
        current.reset(token)
        assert list(pool.map(lambda _: current.get(), range(3))) == [writer] * 3
        assert pool.submit(dict, a=1).result() == {"a": 1}
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result()


def test_asyncio_carries_the_attempt(writer: AttemptWriter) -> None:
    """Tasks, `to_thread` and the default executor."""

    async def test() -> list[AttemptWriter | None]:
        async def inner() -> AttemptWriter | None:
            return current.get()

        loop = asyncio.get_running_loop()
        return [
            await asyncio.create_task(inner()),
            await asyncio.to_thread(current.get),
            await loop.run_in_executor(None, current.get),
        ]

    assert asyncio.run(test()) == [writer] * 3


def test_outside_a_task_nothing_is_carried() -> None:
    """What the worker itself starts belongs to nobody, whoever runs then."""
    seen: list[AttemptWriter | None] = []
    thread = threading.Thread(target=lambda: seen.append(current.get()))
    run = thread.run
    thread.start()
    thread.join()
    with ThreadPoolExecutor(1) as pool:
        seen.append(pool.submit(current.get).result())
    assert seen == [None, None]
    assert thread.run == run


def test_it_can_be_undone() -> None:
    """`uninstall` puts back what was there, unless somebody else has put theirs on top."""
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit
    threads.install()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == (start, submit)
    threads.uninstall()
    assert threading.Thread.start is not start
    assert ThreadPoolExecutor.submit is not submit
    threads.install()

    def on_top(self: threading.Thread) -> None:
        start(self)

    threading.Thread.start = on_top  # type: ignore[method-assign]
    try:
        threads.uninstall()
        assert threading.Thread.start is on_top
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]


def test_an_error_in_a_thread_is_its_own(writer: AttemptWriter) -> None:
    """What a thread raises is reported as ever, and the attempt is let go."""
    raised: list[BaseException | None] = []
    before, threading.excepthook = threading.excepthook, lambda args: raised.append(args.exc_value)
    try:
        thread = threading.Thread(target=lambda: 1 // 0)
        thread.start()
        thread.join()
    finally:
        threading.excepthook = before
    assert [type(error) for error in raised] == [ZeroDivisionError]
    assert current.get() is writer
