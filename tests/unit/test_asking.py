"""Many who ask the same: asked once for all of them, and no answer is older than its question."""

from __future__ import annotations

import asyncio

import pytest

from celery_livelog.asking import Asking


class World:
    """What is asked about; it changes all the time."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = asyncio.Event()

    async def look(self) -> int:
        self.asked += 1
        seen = self.asked
        await self.go_on.wait()
        return seen


def test_asked_once_for_all() -> None:
    """Who asks before it is asked shares the answer; who asks while it is waits for the next one."""

    async def test() -> None:
        asking, world = Asking[int](), World()
        first = [asyncio.create_task(asking.ask("it", world.look)) for _ in range(100)]
        await asyncio.sleep(0.01)
        later = [asyncio.create_task(asking.ask("it", world.look)) for _ in range(100)]
        other = asyncio.create_task(asking.ask("something else", world.look))
        await asyncio.sleep(0.01)
        world.go_on.set()
        assert set(await asyncio.gather(*first)) == {1}
        assert await other == 2
        assert set(await asyncio.gather(*later)) == {3}

    asyncio.run(test())


def test_those_who_leave_take_nobody_with_them() -> None:
    """One of those who asked is gone, and then all of them: nothing is left behind, and nothing said."""

    async def test() -> None:
        asking, world = Asking[int](), World()
        gone, stays = (asyncio.create_task(asking.ask("it", world.look)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        world.go_on.set()
        assert await stays == 1
        world.go_on.clear()
        alone = asyncio.create_task(asking.ask("it", world.look))
        await asyncio.sleep(0.01)
        alone.cancel()
        await asking.close()
        assert asyncio.all_tasks() <= {asyncio.current_task(), alone, gone}

    asyncio.run(test())


def test_an_error_is_for_all_and_not_for_later() -> None:
    """Whoever asks afterwards asks anew."""

    async def fail() -> int:
        raise ValueError("no")

    async def succeed() -> int:
        return 7

    async def test() -> None:
        asking = Asking[int]()
        failed = await asyncio.gather(*(asking.ask("it", fail) for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in failed] == ["no"] * 3
        assert await asking.ask("it", succeed) == 7

    asyncio.run(asyncio.wait_for(test(), 5))


@pytest.mark.parametrize("count", [1, 5])
def test_one_after_the_other(count: int) -> None:
    """Each gets an answer of its own time."""

    async def test() -> None:
        asking, world = Asking[int](), World()
        world.go_on.set()
        assert [await asking.ask("it", world.look) for _ in range(count)] == list(range(1, count + 1))

    asyncio.run(test())
