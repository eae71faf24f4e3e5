"""A connection cut behind every record of a long log that goes on: resumed by cursor without hole or double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import msgspec
import pytest

from celery_livelog.permissions import EVERYTHING, Viewer
from celery_livelog.reader import Reader, hub
from celery_livelog.settings import Settings
from celery_livelog.viewer import ViewerSession
from celery_livelog.web import answers
from celery_livelog.web.answers import Streamed, Whole
from tests.integration.stored import TASK, Shipped, key, shipped
from tests.nodes.valkey import Valkey

#: Records of the log: its lines and its end. The stream has only the last half of them.
RECORDS, LIVE = 2000, 1000
#: Gives the first records behind a cursor.
First = Callable[[Reader, str | None], Awaitable[list[int]]]

#: Connections at once.
_AT_ONCE = 50


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows looks often whether the task has ended."""
    monkeypatch.setattr(hub, "_QUIET_SECONDS", 0.05)


@pytest.fixture
def settings(valkey: Valkey, tmp_path: Path) -> Settings:
    return Settings.from_conf({"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path), "livelog_maxlen": LIVE})


@pytest.fixture
def stores(settings: Settings) -> Iterator[Shipped]:
    """What a shipper writes to."""
    with shipped(settings) as opened:
        yield opened


async def by_session(reader: Reader, after: str | None) -> list[int]:
    """The first records that a session gives behind a cursor; then its connection is cut."""
    seen: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

    async def take(message: bytes) -> None:
        said = msgspec.json.decode(message)
        if said["type"] == "records" and not seen.done():
            seen.set_result([record["n"] for record in said["records"]])

    session = ViewerSession(reader, take, lambda *_: None, viewer=Viewer(via="test", seen=EVERYTHING))
    session.start()
    session.receive(msgspec.json.encode({"type": "subscribe", "task_id": TASK, "after": after}))
    try:
        return await seen
    finally:
        await session.stop()


async def by_long_poll(reader: Reader, after: str | None) -> list[int]:
    """The records that a long-poll gives behind a cursor."""
    given = await _answer(reader, after, wait="20")
    assert isinstance(given, Whole)
    return _numbers(given.body)


async def by_json_lines(reader: Reader, after: str | None) -> list[int]:
    """The first records of an answer that goes on, behind a cursor; then its connection is cut."""
    given = await _answer(reader, after, follow="1")
    assert isinstance(given, Streamed)
    async with aclosing(cast(AsyncGenerator[bytes, None], given.pieces)) as pieces:
        return _numbers(await anext(pieces))


async def _answer(reader: Reader, after: str | None, **arguments: str) -> Whole | Streamed:
    place = {"after": after} if after else {}
    return await answers.log(reader, TASK, answers.log_query({"format": "ndjson", **place, **arguments}))


def _numbers(body: bytes) -> list[int]:
    return [msgspec.json.decode(line)["n"] for line in body.splitlines()]


@pytest.mark.parametrize(("first", "step"), [(by_session, 1), (by_json_lines, 1), (by_long_poll, 9)])
def test_every_record_as_the_cut(
    settings: Settings,
    stores: Shipped,
    valkey: Valkey,
    first: Callable[[Reader, str | None], Awaitable[list[int]]],
    step: int,
) -> None:
    """What comes first on the next connection is the record behind the cut, and then all that follow it.

    The first half is in the archive alone, the second in the stream, and the last ten are printed while it is waited
    for them. A long-poll gives all that there is at once, so it is read from every ninth place.
    """
    attempt = stores.begin(1)
    stores.print(attempt, 1, RECORDS - 10)
    stores.settle()
    assert valkey.client.xlen(key()) < RECORDS - LIVE / 2

    async def resume(reader: Reader, cut: int) -> None:
        seen = await first(reader, f"{attempt.attempt}:{cut}" if cut else None)
        assert seen == list(range(cut + 1, cut + 1 + len(seen)))
        assert seen

    async def test() -> None:
        reader = Reader(settings)
        for begin in range(0, RECORDS - 10, _AT_ONCE):
            cuts = range(begin, min(begin + _AT_ONCE, RECORDS - 10), step)
            await asyncio.gather(*(resume(reader, cut) for cut in cuts))
        waiting = asyncio.gather(*(resume(reader, cut) for cut in range(RECORDS - 10, RECORDS)))
        await asyncio.sleep(0)
        stores.print(attempt, RECORDS - 9, RECORDS - 1)
        stores.end(attempt, RECORDS)
        await waiting
        await reader.close()

    asyncio.run(asyncio.wait_for(test(), 60))
