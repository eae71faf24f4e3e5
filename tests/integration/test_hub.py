"""The hub with a real Valkey: one read for all who watch, and nobody waits for anybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from celery_livelog.attempts import Attempt
from celery_livelog.reader import hub
from celery_livelog.reader.hub import Hub
from celery_livelog.records import Line
from celery_livelog.stores import stream_reader
from celery_livelog.stores.entries import to_fields
from celery_livelog.stores.stream_reader import StreamReader
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

ATTEMPT = "00aa11bb00aa11bb"
PREFIX = "task:logs:"
#: Seconds after which a test has failed.
_LONG = 20.0


@asynccontextmanager
async def hub_of(valkey: Valkey) -> AsyncIterator[Hub]:
    """A hub; at its end it must not have left anything running."""
    before = asyncio.all_tasks()
    reader = StreamReader(valkey.url, PREFIX)
    shared = Hub(reader)
    yield shared
    await shared.close()
    await reader.close()
    assert asyncio.all_tasks() <= before


def add(valkey: Valkey, task_id: str, first: int, last: int) -> str:
    """Add numbered lines to a task's stream; give the id of the last."""
    pipeline = valkey.client.pipeline(transaction=False)
    for n in range(first, last + 1):
        line = Line(n=n, timestamp="2026-01-02T03:04:05.000006+00:00", stream="stdout", line=f"line {n}")
        fields = to_fields(line, ATTEMPT)
        pipeline.xadd(f"{PREFIX}{task_id}", dict(zip(fields[::2], fields[1::2], strict=True)))
    return str(pipeline.execute()[-1])


async def watch(shared: Hub, task_id: str, count: int, seen: list[int] | None = None) -> list[int]:
    """Follow a task from its first entry until `count` entries were given."""
    numbers: list[int] = [] if seen is None else seen
    following = shared.follow(task_id, "")
    async for portion in following:
        numbers += [record.n for _, _, record in portion.entries]
        if len(numbers) >= count:
            break
    await following.aclose()
    return numbers


def readers(valkey: Valkey) -> list[str]:
    """The clients that wait for entries."""
    return [
        client["id"] for client in valkey.client.client_list() if client["cmd"] == "xread" and "b" in client["flags"]
    ]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, _LONG))


def test_many_viewers_are_one_read(valkey: Valkey) -> None:
    """A hundred viewers of ten tasks: each sees its task's lines in order, and one connection waits for all."""

    async def test() -> None:
        async with hub_of(valkey) as shared:
            viewers = [asyncio.create_task(watch(shared, f"task-{number % 10}", 100)) for number in range(100)]
            await asyncio.to_thread(wait_for, lambda: readers(valkey))
            for first in range(1, 101, 20):
                for number in range(10):
                    await asyncio.to_thread(add, valkey, f"task-{number}", first, first + 19)
                assert len(readers(valkey)) <= 1
            assert await asyncio.gather(*viewers) == [list(range(1, 101))] * 100

    run(test())


def test_who_hears_of_a_run_needs_no_read_of_its_own(valkey: Valkey) -> None:
    """One connection waits for tasks and index alike; those who hear of another run are left alone."""

    async def test() -> None:
        async with hub_of(valkey) as shared:
            viewer = asyncio.create_task(watch(shared, "a-task", 2))
            with shared.hearing("a-run") as ear, shared.hearing("another") as deaf:
                await asyncio.to_thread(add, valkey, "a-task", 1, 1)
                await asyncio.to_thread(wait_for, lambda: len(readers(valkey)) == 1)
                known = Attempt(attempt=ATTEMPT, task_id="a-task", run_id="a-run")
                valkey.client.xadd(f"{PREFIX}:index", {"attempt": msgspec.json.encode(known)})
                assert await ear.listen(_LONG)
                assert not await deaf.listen(0)
                await asyncio.to_thread(wait_for, lambda: len(readers(valkey)) == 1)
            await asyncio.to_thread(add, valkey, "a-task", 2, 2)
            assert await viewer == [1, 2]

    run(test())


def test_a_task_that_joins_is_read_at_once(valkey: Valkey) -> None:
    """Who begins to watch a task does not wait until the read of the others is over."""

    async def test() -> None:
        async with hub_of(valkey) as shared:
            first = asyncio.create_task(watch(shared, "quiet", 1))
            await asyncio.to_thread(wait_for, lambda: readers(valkey))
            began = time.monotonic()
            second = asyncio.create_task(watch(shared, "busy", 3))
            await asyncio.to_thread(add, valkey, "busy", 1, 3)
            assert await second == [1, 2, 3]
            assert time.monotonic() - began < 1.0  # half of what a read waits
            await asyncio.to_thread(add, valkey, "quiet", 1, 1)
            assert await first == [1]

    run(test())


def test_many_that_join_at_once(valkey: Valkey) -> None:
    """However often a read is begun anew for one more task, no entry of the others is missed or seen twice."""

    async def test() -> None:
        async with hub_of(valkey) as shared:
            viewers = []
            for number in range(60):
                viewers.append(asyncio.create_task(watch(shared, f"task-{number}", 60 - number)))
                for before in range(number + 1):
                    add(valkey, f"task-{before}", number - before + 1, number - before + 1)
                await asyncio.sleep(0)
            found = await asyncio.gather(*viewers)
            assert found == [list(range(1, 61 - number)) for number in range(60)]

    run(test())


def test_a_slow_viewer_holds_up_nobody(valkey: Valkey) -> None:
    """One that falls behind what is remembered reads on by itself, and has all in the end."""

    async def test() -> None:
        async with hub_of(valkey) as shared:
            slow = shared.follow("a-task", "")
            seen: list[int] = []
            await asyncio.to_thread(add, valkey, "a-task", 1, 10)
            while len(seen) < 10:
                seen += [record.n for _, _, record in (await anext(slow)).entries]
            fast = asyncio.create_task(watch(shared, "a-task", 9000))
            for first in range(11, 9000, 1000):
                await asyncio.to_thread(add, valkey, "a-task", first, min(9000, first + 999))
            assert await fast == list(range(1, 9001))
            largest = 0
            while len(seen) < 9000:
                entries = (await anext(slow)).entries
                largest = max(largest, len(entries))
                seen += [record.n for _, _, record in entries]
            assert seen == list(range(1, 9001))
            assert largest <= 128
            await slow.aclose()

    run(test())


def test_who_comes_later_sees_all(valkey: Valkey) -> None:
    """A viewer that starts at the beginning, or in the middle, of what others have long seen."""

    async def test() -> None:
        async with hub_of(valkey) as shared:
            stay = asyncio.create_task(watch(shared, "a-task", 5001))
            middle = await asyncio.to_thread(add, valkey, "a-task", 1, 2500)
            await asyncio.to_thread(add, valkey, "a-task", 2501, 5000)
            assert await watch(shared, "a-task", 5000) == list(range(1, 5001))
            later = shared.follow("a-task", middle)
            assert (await anext(later)).entries[0][2].n == 2501
            await later.aclose()
            await asyncio.to_thread(add, valkey, "a-task", 5001, 5001)
            assert await stay == list(range(1, 5002))

    run(test())


def test_nobody_watching_nothing_read(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last viewer is gone, however it went, the read ends; with the next it begins again."""
    monkeypatch.setattr(stream_reader, "BLOCK_SECONDS", 0.3)

    async def test() -> None:
        async with hub_of(valkey) as shared:
            viewers = [asyncio.create_task(watch(shared, "a-task", 10**9)) for _ in range(3)]
            await asyncio.to_thread(wait_for, lambda: readers(valkey))
            for viewer in viewers:
                viewer.cancel()
            await asyncio.gather(*viewers, return_exceptions=True)
            await asyncio.to_thread(wait_for, lambda: not readers(valkey))
            again = asyncio.create_task(watch(shared, "a-task", 1))
            await asyncio.to_thread(add, valkey, "a-task", 1, 1)
            assert await again == [1]

    run(test())


def test_a_quiet_task_is_told_of_now_and_then(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer of a task that says nothing is given nothing, so that it can look whether the task has ended."""
    monkeypatch.setattr(hub, "_QUIET_SECONDS", 0.05)

    async def test() -> None:
        async with hub_of(valkey) as shared:
            following = shared.follow("quiet", "")
            assert not (await anext(following)).entries
            await following.aclose()

    run(test())


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_redis_goes_and_comes_back(
    launch: Callable[[Valkey], Valkey], tmp_path: Path, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Viewers wait until Redis is back and go on with what comes then; meanwhile nothing is raised to them."""
    own = launch(Valkey(tmp_path, name="own"))

    async def test() -> None:
        async with hub_of(own) as shared:
            seen: list[int] = []
            viewer = asyncio.create_task(watch(shared, "a-task", 20, seen))
            await asyncio.to_thread(add, own, "a-task", 1, 10)
            await asyncio.to_thread(wait_for, lambda: len(seen) == 10)
            if how == "killed":
                await asyncio.to_thread(own.kill)
                await asyncio.to_thread(own.start)
            else:
                own.client.client_pause(700)
            await asyncio.to_thread(add, own, "a-task", 11, 20)
            assert await viewer == list(range(1, 21))

    run(test())


def test_entries_of_others_are_passed_over(valkey: Valkey) -> None:
    """What somebody else puts into a task's stream is not shown, and nobody stumbles over it."""

    async def test() -> None:
        async with hub_of(valkey) as shared:
            viewer = asyncio.create_task(watch(shared, "a-task", 2))
            await asyncio.to_thread(wait_for, lambda: readers(valkey))
            await asyncio.to_thread(add, valkey, "a-task", 1, 1)
            for fields in (
                {"line": "no record"},
                {"type": "log_line", "n": "one", "attempt": ATTEMPT},
                {"\udcff": "x"},
            ):
                await asyncio.to_thread(
                    valkey.client.execute_command,
                    "XADD",
                    f"{PREFIX}a-task",
                    "*",
                    *(part.encode("utf-8", "surrogateescape") for pair in fields.items() for part in pair),
                )
            await asyncio.to_thread(add, valkey, "a-task", 2, 2)
            assert await viewer == [1, 2]

    run(test())
