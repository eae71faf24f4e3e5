"""A viewer's session over a real reader: what it sees across reconnects, pauses and a Redis that goes away."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from celery_livelog.permissions import EVERYTHING, Viewer
from celery_livelog.reader import Reader, hub
from celery_livelog.settings import Settings
from celery_livelog.shipper import live
from celery_livelog.viewer import ViewerSession
from tests.integration.stored import TASK, Shipped, shipped
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

NORMAL, INTERNAL_ERROR = 1000, 1011


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows looks often whether the task has ended; finished streams are bounded at once."""
    monkeypatch.setattr(hub, "_QUIET_SECONDS", 0.05)
    monkeypatch.setattr(live, "_BOUND_SECONDS", 0.0)


@pytest.fixture
def settings(valkey: Valkey, tmp_path: Path) -> Settings:
    """A stream that keeps less than a long log has."""
    return Settings.from_conf({"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path), "livelog_maxlen": 4000})


@pytest.fixture
def stores(settings: Settings) -> Iterator[Shipped]:
    """What a shipper writes to."""
    with shipped(settings) as opened:
        yield opened


class Browser:
    """The other end of a session: keeps what it was shown, by cursor, and acknowledges if it is told to."""

    def __init__(self, reader: Reader, *, acknowledges: bool = False) -> None:
        self.seen: list[str] = []
        self.codes: list[int] = []
        self.errors: list[str] = []
        self.closed = asyncio.Event()
        self.acknowledges = acknowledges
        self.stuck = False
        self._news = asyncio.Event()
        self._viewer = ViewerSession(reader, self._take, self._close, viewer=Viewer(via="test", seen=EVERYTHING))

    async def connect(self, **subscription: Any) -> None:
        self._viewer.start()
        if self.acknowledges:
            self.say(type="ack", n=0)
        self.say(type="subscribe", task_id=TASK, **subscription)

    def say(self, **message: Any) -> None:
        self._viewer.receive(json.dumps(message))

    async def leave(self) -> None:
        await self._viewer.stop()

    async def has_seen(self, count: int) -> None:
        """Wait until it was shown so much, or all there is."""
        while len(self.seen) < count and not self.closed.is_set():
            self._news.clear()
            await self._news.wait()

    async def _take(self, message: bytes) -> None:
        await (asyncio.Event().wait() if self.stuck else asyncio.sleep(0))
        self._news.set()
        said = json.loads(message)
        if said["type"] == "error":
            self.errors.append(said["code"])
        elif said["type"] == "records":
            self.seen += [f"{said['attempt']}:{record['n']}" for record in said["records"]]
            if self.acknowledges:
                self.say(type="ack", attempt=said["attempt"], n=said["records"][-1]["n"])

    def _close(self, code: int, _: str) -> None:
        self.codes.append(code)
        self.closed.set()
        self._news.set()


@asynccontextmanager
async def reader_of(settings: Settings) -> AsyncIterator[Reader]:
    """A reader; at its end nothing that it or a session has started is left."""
    before = asyncio.all_tasks()
    reader = Reader(settings)
    yield reader
    await reader.close()
    await asyncio.sleep(0.01)  # generators that were left in the middle are closed by tasks of the loop
    assert asyncio.all_tasks() <= before


def run(settings: Settings, test: Callable[[Reader], Awaitable[None]]) -> None:
    async def within() -> None:
        async with reader_of(settings) as reader:
            await test(reader)

    asyncio.run(asyncio.wait_for(within(), 30))


def write(stores: Shipped, count: int) -> list[str]:
    """A whole task, by and by; give its cursors."""
    attempt = stores.begin(1)
    for first in range(1, count, 50):
        stores.print(attempt, first, first + 49)
    stores.end(attempt, count + 1)
    return [f"{attempt.attempt}:{n}" for n in range(1, count + 2)]


@pytest.mark.parametrize("acknowledges", [False, True])
def test_a_viewer_sees_a_task_to_its_end(settings: Settings, stores: Shipped, acknowledges: bool) -> None:
    """From before its start: each record once and in order, then a normal close."""

    async def test(reader: Reader) -> None:
        browser = Browser(reader, acknowledges=acknowledges)
        await browser.connect()
        expected = await asyncio.to_thread(write, stores, 3000)
        await browser.closed.wait()
        await browser.leave()
        assert browser.seen == expected
        assert (browser.codes, browser.errors) == ([NORMAL], [])

    run(settings, test)


def test_many_viewers_of_all_kinds(settings: Settings, stores: Shipped) -> None:
    """Early and late, acknowledging or not, from a cursor or with a tail: each sees its own, to the end."""

    async def test(reader: Reader) -> None:
        early = [Browser(reader, acknowledges=bool(number % 2)) for number in range(20)]
        for browser in early:
            await browser.connect()
        expected = await asyncio.to_thread(write, stores, 1000)
        await asyncio.to_thread(stores.settle)
        cursor, tail = Browser(reader), Browser(reader)
        await cursor.connect(after=expected[699])
        await tail.connect(tail=10)
        for browser in (*early, cursor, tail):
            await browser.closed.wait()
            await browser.leave()
        assert [browser.seen for browser in early] == [expected] * 20
        assert cursor.seen == expected[700:]
        assert tail.seen == expected[-11:]

    run(settings, test)


def test_those_who_take_nothing_hold_up_nobody(settings: Settings, stores: Shipped) -> None:
    """Some whose connection takes nothing, some that never acknowledge: all others see all of it, in order."""

    async def test(reader: Reader) -> None:
        good = [Browser(reader) for _ in range(20)]
        stuck, silent = [Browser(reader) for _ in range(5)], [Browser(reader) for _ in range(5)]
        for browser in (*good, *stuck, *silent):
            browser.stuck = browser in stuck
            await browser.connect()
        for browser in silent:
            browser.say(type="ack", n=0)
        expected = await asyncio.to_thread(write, stores, 3000)
        for browser in good:
            await browser.closed.wait()
            assert browser.seen == expected
        assert all(not browser.seen for browser in stuck)
        assert all(0 < len(browser.seen) < len(expected) for browser in silent)
        for browser in silent:
            browser.acknowledges = True
            browser.say(type="ack", attempt=expected[0].partition(":")[0], n=len(browser.seen))
            await browser.closed.wait()
            assert browser.seen == expected
        for browser in (*good, *stuck, *silent):
            await browser.leave()

    run(settings, test)


def test_reconnecting_with_a_cursor_misses_nothing(settings: Settings, stores: Shipped) -> None:
    """A viewer whose connection breaks again and again, while the task prints: nothing twice, nothing missing."""
    seen: list[str] = []
    chance = random.Random(4711)

    async def test(reader: Reader) -> None:
        writing = asyncio.create_task(asyncio.to_thread(write, stores, 3000))
        connections = 0
        while True:
            connections += 1
            browser = Browser(reader, acknowledges=chance.random() < 0.5)
            await browser.connect(after=seen[-1] if seen else None)
            enough = chance.randint(1, 400)
            await browser.has_seen(enough)
            await browser.leave()
            seen.extend(browser.seen)
            if browser.codes:
                break
        assert browser.codes == [NORMAL]
        assert seen == await writing
        assert connections > 5

    run(settings, test)


def test_a_paused_viewer_goes_on_where_it_was(settings: Settings, stores: Shipped) -> None:
    """Also when the stream has long forgotten what it did not see: the archive has it."""

    async def test(reader: Reader) -> None:
        browser = Browser(reader)
        attempt = stores.begin(1)
        await asyncio.to_thread(stores.print, attempt, 1, 10)
        await browser.connect()
        await asyncio.to_thread(wait_for, lambda: len(browser.seen) == 10)
        browser.say(type="pause")
        for first in range(11, 10_000, 2000):
            await asyncio.to_thread(stores.print, attempt, first, first + 1999)
            await asyncio.to_thread(stores.settle)
        stores.end(attempt, 10_011)
        await asyncio.to_thread(stores.settle)
        before = len(browser.seen)
        browser.say(type="resume")
        await browser.closed.wait()
        await browser.leave()
        assert before <= 10
        assert browser.seen == [f"{attempt.attempt}:{n}" for n in range(1, 10_012)]

    run(settings, test)


def test_changing_the_task(settings: Settings, stores: Shipped) -> None:
    """A viewer may subscribe to another task at any moment, and sees that one from there on."""

    async def test(reader: Reader) -> None:
        other = stores.begin(2, "other")
        await asyncio.to_thread(stores.print, other, 1, 5)
        expected = await asyncio.to_thread(write, stores, 100)
        browser = Browser(reader)
        await browser.connect()
        browser.say(type="subscribe", task_id="other")
        await asyncio.to_thread(wait_for, lambda: f"{other.attempt}:5" in browser.seen)
        browser.say(type="subscribe", task_id=TASK)
        await browser.closed.wait()
        await browser.leave()
        assert browser.seen[-len(expected) :] == expected

    run(settings, test)


def test_redis_goes_away(settings: Settings, stores: Shipped, tmp_path: Path) -> None:
    """A viewer that comes while Redis does not answer is told so; it can come again with its cursor."""
    away = Settings.from_conf({"livelog_redis_url": "redis://127.0.0.1:1/0", "livelog_dir": str(tmp_path)})

    async def test(reader: Reader) -> None:
        browser = Browser(reader)
        await browser.connect()
        await browser.closed.wait()
        await browser.leave()
        assert (browser.codes, browser.errors) == ([INTERNAL_ERROR], ["unavailable"])

    run(away, test)
