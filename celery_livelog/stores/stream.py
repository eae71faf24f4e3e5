"""The live logs in Redis: one stream per task, an index of recent attempts, and the bound on finished ones.

Keys, all below the prefix (``task:logs:`` by default) and all with a TTL:

    task:logs:{task_id}     stream, an entry per record
    task:logs::index        stream, an entry per beginning or ending of an attempt that printed something
    task:logs::finished     sorted set of finished tasks by time of end, where nobody else can read the archive
    task:logs::sizes        sorted set of the same tasks by bytes
    task:logs::lease:{name} there while the shipper of a worker lives

Uses neither KEYS nor SCAN nor MULTI. Nothing here waits or tries again: that is the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_livelog.attempts import Attempt
from celery_livelog.errors import complain
from celery_livelog.records import Line, Partial, Record, from_fields, to_fields
from celery_livelog.stores.wire import Wire, packed

#: Seconds without an answer after which Redis counts as away. redis-py's own retries would repeat what was executed.
_TIMEOUT = 3.0
#: Seconds that a reader waits for new entries at most; also far below the grace of a finished stream.
BLOCK_SECONDS = 2.0
#: Seconds that a stream stays after its log is in a shared archive, for readers in the middle of it.
GRACE_SECONDS = 5
#: Seconds for which a lease holds; it is renewed every `RENEW_SECONDS`.
LEASE_SECONDS, RENEW_SECONDS = 60, 10.0
#: Characters of a line that one entry carries; the rest follows in further entries.
_PIECE = 64 * 1024
#: Bytes that one stream may take, whatever its number of entries.
_STREAM_BYTES = 8 * 1024 * 1024
#: Bytes that an entry takes beside its line: names, numbers, Redis' own.
ENTRY_BYTES = 150
_INDEX_ENTRIES = 2000
#: Bytes of finished streams that may stay where the archive cannot be read by others.
FINISHED_BYTES = 64 * 1024 * 1024

RedisError = redis.RedisError


class Parcel(NamedTuple):
    """Records of one attempt on their way into its task's stream.

    `fresh`: the stream need not exist yet. `known`: the attempt as the index shall show it, at its beginning and end.
    """

    task_id: str
    attempt: str
    records: Sequence[Record]
    fresh: bool
    known: Attempt | None = None


class Sent(NamedTuple):
    """What became of a parcel: how many records from its first on are in, and whether the stream had vanished."""

    records: int
    vanished: bool
    error: Exception | None


class StreamWriter:
    """The shipper's side. Raises `RedisError` when Redis is away."""

    def __init__(self, url: str, prefix: str, maxlen: int, expires: int) -> None:
        self._redis = redis.Redis.from_url(_redis_url(url), **_options())
        self._wire = Wire(self._redis)
        self._prefix = prefix
        self._maxlen = maxlen
        self._expires = expires
        self._mean_bytes: dict[str, float] = {}

    def send(self, parcels: Sequence[Parcel]) -> list[Sent]:
        """Write all parcels in one round trip; every stream's TTL is renewed."""
        commands: list[bytes] = []
        counts = [self._add(commands, parcel) for parcel in parcels]
        answers = iter(self._wire.execute(commands))
        return [_outcome(parcel, count, answers) for parcel, count in zip(parcels, counts, strict=True)]

    def last_n(self, task_id: str, attempt: str) -> int:
        """The last number of an attempt that the stream holds; 0 when none."""
        entries: Any = self._redis.xrevrange(self._key(task_id), count=500)
        for _, fields in entries:
            if fields.get(b"attempt") == attempt.encode() and fields.get(b"type") != b"partial":
                return int(fields[b"n"])
        return 0

    def renew_lease(self, name: str) -> None:
        """Say that the shipper of this name lives; readers take its attempts for lost when it does not any more."""
        try:
            self._redis.set(_lease_key(self._prefix, name), 1, ex=LEASE_SECONDS)
        except redis.ResponseError as error:  # a full Redis, or rights that are too few: lines may yet go through
            complain("the worker's lease in Redis cannot be renewed", error)

    def expire_soon(self, task_id: str) -> None:
        """The log is in an archive that all can read: let its stream go after a grace."""
        self._redis.expire(self._key(task_id), GRACE_SECONDS)

    def finish(self, finished: Iterable[tuple[str, float, int]], keep: int) -> None:
        """Note finished tasks (id, time of end, bytes); delete the oldest streams beyond `keep` and 64 MiB."""
        ended, sizes = self._key(":finished", own=True), self._key(":sizes", own=True)
        pipeline = self._redis.pipeline(transaction=False)
        for task_id, time, size in finished:
            pipeline.zadd(ended, {task_id: time})
            pipeline.zadd(sizes, {task_id: size})
        pipeline.expire(ended, self._expires)
        pipeline.expire(sizes, self._expires)
        pipeline.zrange(ended, 0, -1, desc=True)
        pipeline.zrange(sizes, 0, -1, withscores=True)
        *_, newest_first, with_sizes = pipeline.execute()
        size_of = dict(with_sizes)
        surplus, total = [], 0.0
        for place, task_id in enumerate(newest_first):
            total += size_of.get(task_id, 0.0)
            if place >= keep or total > FINISHED_BYTES:
                surplus.append(task_id)
        if surplus:
            pipeline.unlink(*(self._key(task_id.decode("utf-8", "surrogateescape")) for task_id in surplus))
            pipeline.zrem(ended, *surplus)
            pipeline.zrem(sizes, *surplus)
            pipeline.execute()

    def forget(self, attempt: str) -> None:
        """The attempt writes no more."""
        self._mean_bytes.pop(attempt, None)

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()
        self._redis.close()

    def _add(self, commands: list[bytes], parcel: Parcel) -> list[int]:
        """Add a parcel's commands; give the number of entries of each record, in order."""
        key = self._key(parcel.task_id)
        counts = []
        options = ("MAXLEN", "~", self._entries(parcel), "*")
        only_existing = () if parcel.fresh else ("NOMKSTREAM",)
        for record in parcel.records:
            pieces = _pieces(record)
            counts.append(len(pieces))
            for piece in pieces:
                commands.append(packed("XADD", key, *only_existing, *options, *to_fields(piece, parcel.attempt)))
                only_existing = ("NOMKSTREAM",)
        commands.append(packed("EXPIRE", key, self._expires))
        if parcel.known is not None:
            index = self._key(":index", own=True)
            entry = ("attempt", msgspec.json.encode(parcel.known))
            commands.append(packed("XADD", index, "MAXLEN", "~", _INDEX_ENTRIES, "*", *entry))
            commands.append(packed("EXPIRE", index, self._expires))
        return counts

    def _entries(self, parcel: Parcel) -> int:
        """How many entries the stream may have, so that long lines cannot fill Redis either."""
        size = sum(len(record.text) for record in parcel.records) / max(1, len(parcel.records)) + ENTRY_BYTES
        mean = self._mean_bytes.get(parcel.attempt, size)
        mean = self._mean_bytes[parcel.attempt] = 0.9 * mean + 0.1 * size
        return min(self._maxlen, max(16, int(_STREAM_BYTES / max(mean, size))))

    def _key(self, name: str, *, own: bool = False) -> str:
        return stream_key(self._prefix, name, own=own)


class StreamReader:
    """The readers' side, asynchronous. Raises `RedisError` when Redis is away."""

    def __init__(self, url: str, prefix: str) -> None:
        options = {**_options(), "decode_responses": True, "encoding_errors": "backslashreplace"}
        options["socket_timeout"] = _TIMEOUT + BLOCK_SECONDS
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        self._redis = redis.asyncio.Redis.from_url(_redis_url(url), **{**options, "retry": retry})
        self._prefix = prefix

    async def after(self, task_id: str, entry_id: str, count: int) -> list[tuple[str, str, Record]]:
        """Up to `count` entries after an entry id ("" for the first): id, attempt, record."""
        start = f"({entry_id}" if entry_id else "-"
        return _parsed(await self._redis.xrange(stream_key(self._prefix, task_id), min=start, count=count))

    async def wait(self, after: Mapping[str, str], count: int) -> dict[str, list[tuple[str, str, Record]]]:
        """New entries of several tasks, each after its entry id; waits `BLOCK_SECONDS` for the first."""
        keys = {stream_key(self._prefix, task_id): task_id for task_id in after}
        streams: Any = {key: after[task_id] or "0-0" for key, task_id in keys.items()}
        answer: Any = await self._redis.xread(streams, count=count, block=int(BLOCK_SECONDS * 1000))
        pairs = answer.items() if isinstance(answer, dict) else answer or ()
        return {keys[key]: _parsed(_flat(entries)) for key, entries in pairs}

    async def newest(self, task_id: str, count: int) -> list[tuple[str, str, Record]]:
        """The last `count` entries, newest first."""
        return _parsed(await self._redis.xrevrange(stream_key(self._prefix, task_id), count=count))

    async def recent(self, limit: int) -> list[Attempt]:
        """The last beginnings and endings of attempts, newest first."""
        index = stream_key(self._prefix, ":index", own=True)
        entries: Any = await self._redis.xrevrange(index, count=limit)
        return [attempt for _, fields in entries if (attempt := _attempt(fields)) is not None]

    async def lapsed(self, leases: Collection[str]) -> set[str]:
        """Which of these leases nobody keeps up."""
        pipeline = self._redis.pipeline(transaction=False)
        for name in leases:
            pipeline.exists(_lease_key(self._prefix, name))
        return {name for name, there in zip(leases, await pipeline.execute(), strict=True) if not there}

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def stream_key(prefix: str, task_id: str, *, own: bool = False) -> str:
    """The key of a task's stream. A task id that looks like a key of our `own` gets one more colon."""
    return f"{prefix}:{task_id}" if task_id.startswith(":") and not own else f"{prefix}{task_id}"


def _lease_key(prefix: str, name: str) -> str:
    return stream_key(prefix, f":lease:{name}", own=True)


def _options() -> dict[str, Any]:
    return {
        "socket_timeout": _TIMEOUT,
        "socket_connect_timeout": _TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "encoding_errors": "surrogateescape",
    }


def _redis_url(url: str) -> str:
    """Celery's URLs in redis-py's form."""
    return url.replace("redis+socket://", "unix://", 1)


def _pieces(record: Record) -> list[Record]:
    """A record as what entries carry: an overlong line in pieces, all with its number."""
    if not isinstance(record, (Line, Partial)) or len(record.line) <= _PIECE:
        return [record]
    if isinstance(record, Partial):
        return [msgspec.structs.replace(record, line=record.line[-_PIECE:])]
    texts = [record.line[at : at + _PIECE] for at in range(0, len(record.line), _PIECE)]
    return [
        msgspec.structs.replace(record, line=text, piece=piece, more=record.more or piece < len(texts) - 1)
        for piece, text in enumerate(texts)
    ]


def _outcome(parcel: Parcel, counts: Sequence[int], answers: Any) -> Sent:
    """Read a parcel's answers: an entry without an id was not added, because the stream had vanished."""
    added, vanished, error = 0, False, None
    for count in counts:
        ids = [next(answers) for _ in range(count)]
        for answer in ids:
            if isinstance(answer, Exception):
                error = error or answer
            vanished = vanished or answer is None
        if error is None and not vanished:
            added += 1
    for _ in range(1 if parcel.known is None else 3):
        next(answers)
    return Sent(added, vanished, error)


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


def _attempt(fields: Mapping[str, str]) -> Attempt | None:
    try:
        return msgspec.json.decode(fields.get("attempt", ""), type=Attempt)
    except msgspec.MsgspecError:
        return None
