"""The reader with real stores: one log from archive and stream, whatever state they are in, by one cursor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_livelog.cursors import Cursor
from celery_livelog.errors import StoreError
from celery_livelog.reader import Reader, hub, patience
from celery_livelog.reader.merge import Batch
from celery_livelog.records import End, Gap, Line, Partial, Record
from celery_livelog.recovery import Recovery
from celery_livelog.settings import Settings
from celery_livelog.shipper import live
from tests.integration.reading import run
from tests.integration.stored import AT, TASK, Shipped, key, shipped, trim
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

FIRST, SECOND = f"{1:016x}", f"{2:016x}"
LINES = 120


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows looks often whether the task has ended; finished streams are bounded at once."""
    monkeypatch.setattr(hub, "_QUIET_SECONDS", 0.05)
    monkeypatch.setattr(live, "_BOUND_SECONDS", 0.0)


@pytest.fixture
def settings(valkey: Valkey, tmp_path: Path) -> Settings:
    """A stream that keeps little, so that segments are archived early."""
    return Settings.from_conf({"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path), "livelog_maxlen": 40})


@pytest.fixture
def stores(settings: Settings) -> Iterator[Shipped]:
    """What a shipper writes to."""
    with shipped(settings) as opened:
        yield opened


async def collect(batches: AsyncIterator[Batch]) -> list[tuple[int, Record]]:
    return [(batch.number, record) async for batch in batches for record in batch.records]


def read(settings: Settings, **options: Any) -> list[tuple[int, Record]]:
    """What a reader gives of the task."""
    found: list[tuple[int, Record]] = []

    async def test(reader: Reader) -> None:
        found.extend(await collect(reader.log(TASK, **options)))

    run(settings, test)
    return found


def numbers(found: list[tuple[int, Record]]) -> list[tuple[int, int]]:
    return [(number, record.n) for number, record in found]


def whole(first: int = 0, second: int = 0) -> list[tuple[int, int]]:
    """Numbers of both attempts, behind these."""
    return [(1, n) for n in range(first + 1, LINES + 2)] + [(2, n) for n in range(second + 1, LINES + 2)]


def two_attempts(stores: Shipped, *, end: bool = True) -> None:
    """A task that was tried again; both attempts have printed."""
    first = stores.begin(1)
    stores.print(first, 1, LINES)
    stores.end(first, LINES + 1, "RETRY")
    second = stores.begin(2)
    stores.print(second, 1, LINES)
    if end:
        stores.end(second, LINES + 1)
    stores.settle()


def everything(_: Valkey) -> None:
    """Archive and stream have all that they keep."""


def archive_alone(valkey: Valkey) -> None:
    valkey.client.delete(key())


def trimmed(valkey: Valkey) -> None:
    trim(valkey, keep=5)


STATES = [everything, archive_alone, trimmed]


@pytest.mark.parametrize("state", STATES)
def test_a_finished_task_is_whole(
    settings: Settings, stores: Shipped, valkey: Valkey, state: Callable[[Valkey], None]
) -> None:
    """Both attempts in order of start, each record once; followed or not, that is all."""
    two_attempts(stores)
    state(valkey)
    found = read(settings)
    assert numbers(found) == whole()
    assert not [record for _, record in found if isinstance(record, Gap)]
    assert read(settings, follow=True) == found


CURSORS = {
    Cursor(FIRST, 0): whole(),
    Cursor(FIRST, 37): whole(37),
    Cursor(FIRST, LINES): whole(LINES),
    Cursor(FIRST, LINES + 1): whole(LINES + 1),
    Cursor(SECOND, 0): whole(LINES + 1),
    Cursor(SECOND, 99): whole(LINES + 1, 99),
    Cursor(SECOND, LINES + 1): [],
    Cursor("ff" * 8, 5): whole(),
}


@pytest.mark.parametrize("state", STATES)
def test_a_cursor_is_good_everywhere(
    settings: Settings, stores: Shipped, valkey: Valkey, state: Callable[[Valkey], None]
) -> None:
    """Whoever comes back gets what he has not seen, and only that, wherever it is by now."""
    two_attempts(stores)
    state(valkey)
    for cursor, rest in CURSORS.items():
        assert numbers(read(settings, after=cursor)) == rest, cursor
        assert numbers(read(settings, after=cursor, follow=True)) == rest, cursor


TAILS = {
    0: [(1, LINES + 1), (2, LINES + 1)],
    1: whole(LINES + 1, LINES - 1),
    LINES: whole(LINES + 1),
    LINES + 3: whole(LINES - 3),
    10_000: whole(),
}


@pytest.mark.parametrize("state", STATES)
def test_a_tail(settings: Settings, stores: Shipped, valkey: Valkey, state: Callable[[Valkey], None]) -> None:
    """The last so many records that are no ends, over the bounds of attempts, and what belongs behind them."""
    two_attempts(stores)
    state(valkey)
    for tail, rest in TAILS.items():
        found = numbers(read(settings, tail=tail))
        assert [place for place in found if place[1] <= LINES] == [place for place in rest if place[1] <= LINES], tail
        assert set(found) <= set(rest), tail


def test_attempts_at_once(settings: Settings, stores: Shipped) -> None:
    """Their lines are mixed in the stream, and the second is archived before the first has ended: read in order."""
    first, second = stores.begin(1), stores.begin(2)
    for n in range(1, 10):
        stores.print(first, n, n)
        stores.print(second, n, n)
    stores.end(second, 10)
    wait_for(lambda: second.attempt in stores.archived)
    stores.settle()
    assert numbers(read(settings)) == [(1, n) for n in range(1, 10)] + [(2, n) for n in range(1, 11)]
    stores.end(first, 10, "RETRY")
    stores.settle()
    assert numbers(read(settings, follow=True)) == [(number, n) for number in (1, 2) for n in range(1, 11)]


def test_a_cursor_among_attempts_at_once(settings: Settings, stores: Shipped) -> None:
    """Each goes on where it was; of one that still runs and is not named nothing is left out."""
    first, second = stores.begin(1), stores.begin(2)
    stores.print(first, 1, LINES)
    stores.print(second, 1, LINES)
    stores.settle()
    both = Cursor(SECOND, 7, beside=(Cursor(FIRST, 30),))
    assert Cursor.parse(str(both)) == both
    assert numbers(read(settings, after=both)) == [(1, n) for n in range(31, LINES + 1)] + [
        (2, n) for n in range(8, LINES + 1)
    ]
    assert numbers(read(settings, after=Cursor(SECOND, LINES))) == [(1, n) for n in range(1, LINES + 1)]


def test_one_attempt(settings: Settings, stores: Shipped) -> None:
    """By its number in order of start."""
    two_attempts(stores)
    assert numbers(read(settings, attempt=1)) == [(1, n) for n in range(1, LINES + 2)]
    assert numbers(read(settings, attempt=2, tail=1)) == [(2, LINES), (2, LINES + 1)]
    assert read(settings, attempt=3) == []


def test_what_nobody_has_is_a_gap(settings: Settings, stores: Shipped, valkey: Valkey) -> None:
    """A running task's lines that the stream has trimmed and that no segment has yet are counted, not passed over."""
    attempt = stores.begin(1)
    stores.print(attempt, 1, 15)
    stores.settle()
    trim(valkey, keep=5)
    found = [record for _, record in read(settings)]
    assert isinstance(found[0], Gap)
    assert (found[0].first, found[0].last, found[0].skipped) == (1, 10, 10)
    assert [record.n for record in found[1:]] == list(range(11, 16))


def test_a_late_reader_sees_the_first_line(settings: Settings, stores: Shipped, valkey: Valkey) -> None:
    """A task that runs on: what was trimmed is in the archive by then."""
    attempt = stores.begin(1)
    for first in range(1, 1001, 10):
        stores.print(attempt, first, first + 9)
    stores.settle()
    assert 0 < valkey.client.xlen(key()) < 1000
    found = read(settings)
    assert numbers(found) == [(1, n) for n in range(1, 1001)]


def follow(settings: Settings, then: Callable[[list[int]], Coroutine[Any, Any, None]], **options: Any) -> list[int]:
    """Follow the task while `then` goes on; give the numbers seen."""
    seen: list[int] = []

    async def test(reader: Reader) -> None:
        async def watch() -> None:
            async for batch in reader.log(TASK, follow=True, **options):
                seen.extend(record.n for record in batch.records)

        watching = asyncio.create_task(watch())
        await then(seen)
        await watching

    run(settings, test)
    return seen


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_for, condition)


def test_follow_from_before_the_start(settings: Settings, stores: Shipped) -> None:
    """Who watches a task that nobody knows yet sees it from its first line to its end, and then it is over."""

    async def then(seen: list[int]) -> None:
        attempt = stores.begin(1)
        for n in range(1, 31):
            stores.print(attempt, n, n)
            await until(lambda: len(seen) >= n)  # noqa: B023 - waited for here
        stores.end(attempt, 31)

    assert follow(settings, then) == list(range(1, 32))


def test_follow_over_a_retry(settings: Settings, stores: Shipped) -> None:
    """A retry ends its attempt, not the task."""

    async def then(seen: list[int]) -> None:
        first = stores.begin(1)
        stores.print(first, 1, 3)
        stores.end(first, 4, "RETRY")
        await until(lambda: len(seen) == 4)
        second = stores.begin(2)
        stores.print(second, 1, 2)
        stores.end(second, 3)

    assert follow(settings, then) == [1, 2, 3, 4, 1, 2, 3]


def test_follow_a_task_that_says_nothing(settings: Settings, stores: Shipped) -> None:
    """It is over when the catalog knows that it is."""

    async def then(_: list[int]) -> None:
        stores.end(stores.begin(1), 0)

    assert follow(settings, then) == [1]
    assert [record for _, record in read(settings)] == [End(n=1, timestamp=AT, state="SUCCESS", exit_code=0)]


def test_a_lost_worker(
    settings: Settings, stores: Shipped, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """When nothing has been heard of a worker for long its tasks are over; what is left of them can be archived."""
    monkeypatch.setattr(patience, "_LOST_SECONDS", 0.1)
    attempt = stores.begin(1, lease="its-lease")
    stores.print(attempt, 1, LINES)
    stores.settle()
    valkey.client.set("task:logs::lease:its-lease", 1)

    async def then(seen: list[int]) -> None:
        await until(lambda: len(seen) >= LINES)
        await asyncio.sleep(0.5)  # nothing happens while it holds: there is no event to wait for
        assert len(seen) == LINES
        valkey.client.delete("task:logs::lease:its-lease")

    assert follow(settings, then) == [*range(1, LINES + 2)]
    (_, last) = read(settings)[-1]
    assert isinstance(last, End)
    assert (last.n, last.state, last.exit_code) == (LINES + 1, "LOST", 137)

    async def recover(reader: Reader) -> None:
        (done,) = await Recovery(settings).recover_all(reader)
        assert (done.lines, done.skipped, done.state) == (LINES, 0, "LOST")
        assert await Recovery(settings).lost(reader, [TASK]) == []

    run(settings, recover)
    archive_alone(valkey)
    assert numbers(read(settings)) == [(1, n) for n in range(1, LINES + 2)]


def test_follow_when_the_stream_goes(settings: Settings, stores: Shipped, valkey: Valkey) -> None:
    """A stream that is deleted while it is followed: the rest comes from the archive."""

    async def then(seen: list[int]) -> None:
        attempt = stores.begin(1)
        stores.print(attempt, 1, 50)
        await until(lambda: len(seen) == 50)
        valkey.client.client_pause(300)
        stores.print(attempt, 51, 80)  # no more than the stream has room for
        stores.end(attempt, 81)
        await until(lambda: stores.archived)
        await asyncio.to_thread(valkey.client.delete, key())

    assert follow(settings, then) == list(range(1, 82))


def test_half_lines_are_shown_to_who_follows(settings: Settings, stores: Shipped) -> None:
    """And to nobody else: they are no part of the log."""
    attempt = stores.begin(1)
    stores.print(attempt, 1, 1)
    stores.put(attempt, [Partial(n=2, timestamp=AT, stream="stdout", line="half")])
    stores.settle()
    assert [type(record) for _, record in read(settings)] == [Line]

    async def test(reader: Reader) -> None:
        following = reader.log(TASK, follow=True)
        seen: list[Record] = []
        while len(seen) < 2:
            seen += (await anext(following)).records
        assert [type(record) for record in seen] == [Line, Partial]
        await following.aclose()

    run(settings, test)


def test_attempts_and_recent(settings: Settings, stores: Shipped, tmp_path: Path) -> None:
    """From the catalog, and for another host from Redis alone; each attempt once, with how it ended."""
    two_attempts(stores)
    other = stores.begin(3, "another")
    stores.print(other, 1, 1)
    stores.settle()
    elsewhere = Settings.from_conf({"livelog_redis_url": settings.redis_url, "livelog_dir": str(tmp_path / "other")})
    for place in (settings, elsewhere):

        async def test(reader: Reader) -> None:
            attempts = await reader.attempts(TASK)
            assert [(known.attempt, known.state) for known in attempts] == [(FIRST, "RETRY"), (SECOND, "SUCCESS")]
            assert [known.task_id for known in await reader.recent()] == ["another", TASK, TASK]
            assert [known.task_id for known in await reader.recent(1)] == ["another"]
            assert await reader.attempts("unknown") == []

        run(place, test)


def test_a_redis_that_does_not_answer(settings: Settings, stores: Shipped, tmp_path: Path) -> None:
    """Is said, not taken for an empty log."""
    away = Settings.from_conf({"livelog_redis_url": "redis://127.0.0.1:1/0", "livelog_dir": str(tmp_path)})

    async def test(reader: Reader) -> None:
        with pytest.raises(StoreError, match="Redis does not answer"):
            await collect(reader.log(TASK))

    run(away, test)


def test_without_a_redis(settings: Settings, stores: Shipped, tmp_path: Path) -> None:
    """The archive alone has finished logs."""
    two_attempts(stores)
    alone = Settings.from_conf({"livelog_dir": str(tmp_path)})
    found = read(alone, follow=True)
    assert numbers(found) == whole()
    assert isinstance(found[-1][1], End)
