"""The readers' side of the live logs: what streams hold, and what comes new."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, NamedTuple

import msgspec
import redis
import redis.asyncio
from redis.backoff import NoBackoff

from celery_livelog.attempts import Attempt
from celery_livelog.records import Record
from celery_livelog.stores.entries import from_fields
from celery_livelog.stores.refusals import is_of_key
from celery_livelog.stores.stream import disk_key, lease_key, options, redis_url, stream_key

#: Seconds that a reader waits for new entries at most; also far below the grace of a finished stream.
BLOCK_SECONDS = 2.0
#: Questions that are asked at once, beside the one that waits for new entries.
_AT_ONCE = 8


class News(NamedTuple):
    """New entries by task, the attempts that the index tells of, and the id of its last entry."""

    entries: dict[str, list[tuple[str, str, Record]]]
    attempts: list[Attempt]
    index_id: str | None


class StreamReader:
    """The readers' side, asynchronous. Raises `RedisError` when Redis is away."""

    def __init__(self, url: str, prefix: str) -> None:
        chosen = {**options(), "decode_responses": True, "encoding_errors": "backslashreplace"}
        chosen["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 0)
        chosen["socket_timeout"] += BLOCK_SECONDS
        self._redis = redis.asyncio.Redis.from_url(redis_url(url), **chosen)
        self._prefix = prefix
        self._index = stream_key(prefix, ":index", own=True)
        #: However many ask at once, they share a few connections.
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def after(self, task_id: str, entry_id: str, count: int) -> list[tuple[str, str, Record]]:
        """Up to `count` entries after an entry id ("" for the first): id, attempt, record."""
        start = f"({entry_id}" if entry_id else "-"
        key = stream_key(self._prefix, task_id)
        return await self._read(lambda: self._redis.xrange(key, min=start, count=count))

    async def wait(self, after: Mapping[str, str], count: int, index: str | None = None) -> News:
        """What is new of several tasks, each after its entry id; waits `BLOCK_SECONDS` for the first.

        All keys are in one read. On a cluster it would be one for each node, here and nowhere else.

        :param index: what is new in the index after this entry id is wanted, too.
        """
        streams: Any = {stream_key(self._prefix, task_id): last or "0-0" for task_id, last in after.items()}
        keys = {key.decode("utf-8", "backslashreplace"): task_id for key, task_id in zip(streams, after, strict=True)}
        if index is not None:
            streams[self._index] = index
        if not streams:
            return News({}, [], index)
        block = int(BLOCK_SECONDS * 1000)
        try:
            answer: Any = await self._redis.xread(streams, count=count, block=block)
        except redis.ResponseError as error:  # one key that is no stream has Redis refuse them all
            if not is_of_key(error):
                raise
            streams = {key: last for key, last in streams.items() if await self._is_stream(key)}
            if not streams:
                await asyncio.sleep(BLOCK_SECONDS)
                return News({}, [], index)
            answer = await self._redis.xread(streams, count=count, block=block)
        read = {key: _flat(entries) for key, entries in (answer.items() if isinstance(answer, dict) else answer or ())}
        begun = read.pop(self._index.decode("utf-8", "backslashreplace"), [])
        entries = {keys[key]: _parsed(found) for key, found in read.items()}
        return News(entries, _attempts(begun), begun[-1][0] if begun else index)

    async def index_end(self) -> str:
        """The id of the last entry of the index."""
        entries: Any = await self._redis.xrevrange(self._index, count=1)
        return str(entries[0][0]) if entries else "0-0"

    async def newest(self, task_id: str, count: int) -> list[tuple[str, str, Record]]:
        """The last `count` entries, newest first."""
        key = stream_key(self._prefix, task_id)
        return await self._read(lambda: self._redis.xrevrange(key, count=count))

    async def recent(self, limit: int) -> list[Attempt]:
        """The last beginnings and endings of attempts, newest first."""
        return _attempts(await self._redis.xrevrange(self._index, count=limit))

    async def lapsed(self, leases: Collection[str]) -> set[str]:
        """Which of these leases nobody keeps up."""
        pipeline = self._redis.pipeline(transaction=False)
        for name in leases:
            pipeline.exists(lease_key(self._prefix, name))
        return {name for name, there in zip(leases, await pipeline.execute(), strict=True) if not there}

    async def disk(self, lease: str) -> str:
        """Where the archive lies of the worker with a lease, if that is its own; empty when nobody has said so."""
        try:
            return str(await self._redis.get(disk_key(self._prefix, lease)) or "")
        except redis.exceptions.NoPermissionError:
            return ""

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _read(self, ask: Callable[[], Awaitable[Any]]) -> list[tuple[str, str, Record]]:
        """The entries that Redis gives; none where the key holds something that is no stream."""
        try:
            async with self._turn:
                return _parsed(await ask())
        except redis.ResponseError as error:
            if not is_of_key(error):
                raise
            return []

    async def _is_stream(self, key: bytes) -> bool:
        try:
            await self._redis.xrange(key, count=1)
        except redis.ResponseError as error:
            if not is_of_key(error):
                raise
            return False
        return True


def _parsed(entries: Any) -> list[tuple[str, str, Record]]:
    """Entries of ours; what others may have put there is passed over."""
    parsed = []
    for entry_id, fields in entries or ():
        try:
            attempt, record = from_fields(fields)
        except (msgspec.MsgspecError, ValueError, TypeError):
            continue
        parsed.append((entry_id, attempt, record))
    return parsed


def _flat(entries: Any) -> Any:
    """RESP3 wraps a stream's entries in one more list."""
    return (
        entries[0]
        if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], (list, tuple))
        else entries
    )


def _attempts(entries: Any) -> list[Attempt]:
    return [attempt for _, fields in entries if (attempt := _attempt(fields)) is not None]


def _attempt(fields: Mapping[str, str]) -> Attempt | None:
    try:
        return msgspec.json.decode(fields.get("attempt", ""), type=Attempt)
    except msgspec.MsgspecError:
        return None
