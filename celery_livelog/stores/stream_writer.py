"""The shipper's side of the live logs: records into streams, many of them in one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import redis

from celery_livelog.attempts import Attempt
from celery_livelog.errors import RelayRefusal, complain
from celery_livelog.records import Line, Partial, Record
from celery_livelog.stores.entries import to_fields
from celery_livelog.stores.refusals import granted, is_error, is_of_key
from celery_livelog.stores.stream import (
    GRACE_SECONDS,
    LEASE_SECONDS,
    disk_key,
    lease_key,
    options,
    redis_url,
    stream_key,
    to_bytes,
)
from celery_livelog.stores.wire import Wire, packed

#: Characters of a line that one entry carries; the rest follows in further entries.
_PIECE = 64 * 1024
#: Bytes that one stream may take, whatever its number of entries.
_STREAM_BYTES = 8 * 1024 * 1024
#: Bytes that an entry takes beside its line: names, numbers, Redis' own.
ENTRY_BYTES = 150
_INDEX_ENTRIES = 2000
#: Bytes of finished streams that may stay where the archive cannot be read by others.
FINISHED_BYTES = 64 * 1024 * 1024


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
    """What became of a parcel: how many records from its first on are in, and whether the stream had vanished.

    `refused`: whatever else there is is taken, but this not: its key holds no stream, or a relay does not allow it.
    """

    records: int
    vanished: bool
    error: Exception | None

    @property
    def refused(self) -> bool:
        return is_of_key(self.error) or isinstance(self.error, RelayRefusal)


class StreamWriter:
    """The shipper's side, for one thread. Raises `RedisError` when Redis is away."""

    def __init__(self, url: str, prefix: str, maxlen: int, expires: int) -> None:
        self._redis = redis.Redis.from_url(redis_url(url), **options(), protocol=2)
        # Asked first of all on each connection: who may not EXPIRE would leave keys that stay for ever.
        self._wire = Wire(self._redis, packed("EXPIRE", stream_key(prefix, ":index", own=True), expires))
        self._prefix = prefix
        self._maxlen = maxlen
        self._expires = expires
        self._mean_bytes: dict[str, float] = {}

    def send(self, parcels: Sequence[Parcel]) -> list[Sent]:
        """Write all parcels in one round trip; every stream's TTL is renewed."""
        commands: list[bytes] = []
        counts = [self._add(commands, parcel) for parcel in parcels]
        answers = iter(self._wire.execute(commands))
        outcomes = [_outcome(parcel, count, answers) for parcel, count in zip(parcels, counts, strict=True)]
        if any(sent.error is not None and not sent.refused for sent in outcomes):
            self._wire.close()  # after a failover the name may lead to another server
        return outcomes

    def last_n(self, task_id: str, attempt: str) -> int:
        """The last number of an attempt that the stream holds; 0 when none."""
        (entries,) = self._wire.execute([packed("XREVRANGE", self._key(task_id), "+", "-", "COUNT", 500)])
        if is_of_key(entries):
            return 0
        for _, flat in granted(entries):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if fields.get(b"attempt") == attempt.encode() and fields.get(b"type") != b"partial":
                return int(fields[b"n"])
        return 0

    def renew_leases(self, names: Iterable[str], disk: str = "") -> None:
        """Say that the shippers of these names live; readers take their attempts for lost when they do not any more.

        :param disk: the URL of the archive, where that is the worker's own; it is remembered as long as the index.
        """
        commands: list[bytes] = []
        for name in names:
            key = lease_key(self._prefix, name)
            commands.append(packed("EXPIRE", key, LEASE_SECONDS))  # a Redis without memory refuses SET, but not EXPIRE
            if disk:
                commands.append(packed("SET", disk_key(self._prefix, name), to_bytes(disk), "EX", self._expires))
            commands.append(packed("SET", key, 1, "EX", LEASE_SECONDS))
        if not commands:
            return
        *_, answer = self._wire.execute(commands)
        if isinstance(answer, redis.exceptions.NoPermissionError):  # all else keeps lines from Redis too, and is told
            complain("the worker's lease in Redis cannot be renewed", answer)

    def expire_soon(self, task_id: str) -> None:
        """The log is in an archive that all can read: let its stream go after a grace."""
        self._ask([packed("EXPIRE", self._key(task_id), GRACE_SECONDS)])

    def finish(self, finished: Iterable[tuple[str, float, int]], keep: int) -> None:
        """Note finished tasks (id, time of end, bytes); delete the oldest streams beyond `keep` and 64 MiB."""
        ended, sizes = self._key(":finished", own=True), self._key(":sizes", own=True)
        named = [(to_bytes(task_id), time, size) for task_id, time, size in finished]
        times: list[Any] = [part for name, time, _ in named for part in (time, name)]
        weights: list[Any] = [part for name, _, size in named for part in (size, name)]
        newest_first, flat = self._ask(
            [
                packed("ZADD", ended, *times),
                packed("EXPIRE", ended, self._expires),
                packed("ZADD", sizes, *weights),
                packed("EXPIRE", sizes, self._expires),
                packed("ZREVRANGE", ended, 0, -1),
                packed("ZRANGE", sizes, 0, -1, "WITHSCORES"),
            ]
        )[-2:]
        size_of = dict(zip(flat[::2], map(float, flat[1::2]), strict=True))
        surplus, total = [], 0.0
        for place, task_id in enumerate(newest_first):
            total += size_of.get(task_id, 0.0)
            if place >= keep or total > FINISHED_BYTES:
                surplus.append(task_id)
        if surplus:
            keys = [self._key(task_id.decode("utf-8", "surrogatepass")) for task_id in surplus]
            self._ask([packed("UNLINK", *keys), packed("ZREM", ended, *surplus), packed("ZREM", sizes, *surplus)])

    def forget(self, attempt: str) -> None:
        """The attempt writes no more."""
        self._mean_bytes.pop(attempt, None)

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()
        self._redis.close()

    def _ask(self, commands: Sequence[bytes]) -> list[Any]:
        return [granted(answer) for answer in self._wire.execute(commands)]

    def _add(self, commands: list[bytes], parcel: Parcel) -> list[int]:
        """Add a parcel's commands; give the number of entries of each record, in order."""
        if parcel.known is not None:
            index = self._key(":index", own=True)
            entry = ("attempt", msgspec.json.encode(parcel.known))
            commands.append(packed("XADD", index, "MAXLEN", "~", _INDEX_ENTRIES, "*", *entry))
            commands.append(packed("EXPIRE", index, self._expires))
        key = self._key(parcel.task_id)
        options = ("MAXLEN", "~", self._entries(parcel), "*")
        only_existing = () if parcel.fresh else ("NOMKSTREAM",)
        counts, adds = [], []
        for record in parcel.records:
            entries = pieces(record)
            counts.append(len(entries))
            for piece in entries:
                adds.append(packed("XADD", key, *only_existing, *options, *to_fields(piece, parcel.attempt)))
                only_existing = ("NOMKSTREAM",)
        if adds:
            commands += (adds[0], packed("EXPIRE", key, self._expires), *adds[1:])
        return counts

    def _entries(self, parcel: Parcel) -> int:
        """How many entries the stream may have, so that long lines cannot fill Redis either."""
        size = sum(len(record.text) for record in parcel.records) / max(1, len(parcel.records)) + ENTRY_BYTES
        mean = self._mean_bytes.get(parcel.attempt, size)
        mean = self._mean_bytes[parcel.attempt] = 0.9 * mean + 0.1 * size
        return min(self._maxlen, max(16, int(_STREAM_BYTES / max(mean, size))))

    def _key(self, name: str, *, own: bool = False) -> bytes:
        return stream_key(self._prefix, name, own=own)


def pieces(record: Record) -> list[Record]:
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


def _outcome(parcel: Parcel, counts: Sequence[int], answers: Iterator[Any]) -> Sent:
    """Read a parcel's answers: an entry without an id was not added, because the stream had vanished."""
    error: Exception | None = None
    if parcel.known is not None:
        error = next((said for said in (next(answers), next(answers)) if is_error(said) and not is_of_key(said)), None)
    if counts:
        first, expired = next(answers), next(answers)
        answers = chain((first,), answers)
        error = error or (expired if is_error(expired) else None)
    added, vanished = 0, False
    for count in counts:
        for _ in range(count):
            answer = next(answers)
            vanished = vanished or answer is None
            if error is None and is_error(answer):
                error = answer
        added += error is None and not vanished
    return Sent(added, vanished, error)
