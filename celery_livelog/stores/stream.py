"""The live logs in Redis: one stream per task, an index of recent attempts, and the bound on finished ones.

Keys, all below the prefix (``task:logs:`` by default) and all with a TTL:

    task:logs:{task_id}     stream, an entry per record
    task:logs::index        stream, an entry per beginning or ending of an attempt that printed something
    task:logs::finished     sorted set of finished tasks by time of end, where nobody else can read the archive
    task:logs::sizes        sorted set of the same tasks by bytes
    task:logs::lease:{name} there while the shipper of a worker lives
    task:logs::disk:{name}  the URL of its archive, where that is on the worker's own disk

Uses neither KEYS nor SCAN nor MULTI. Nothing here waits or tries again: that is the caller's. What creates a key is
followed by its EXPIRE at once, in the same packet, so that no end of a connection can part the two.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Seconds without an answer after which Redis counts as away.
_TIMEOUT = 3.0
#: Seconds that a stream stays after its log is in a shared archive, for readers in the middle of it.
GRACE_SECONDS = 5
#: Seconds for which a lease holds; it is renewed every `RENEW_SECONDS`.
LEASE_SECONDS, RENEW_SECONDS = 60, 10.0

RedisError = redis.RedisError


def stream_key(prefix: str, name: str, *, own: bool = False) -> bytes:
    """The key of a task's stream. A task id that looks like a key of our `own` gets one more colon."""
    return to_bytes(f"{prefix}:{name}" if name.startswith(":") and not own else f"{prefix}{name}")


def to_bytes(text: str) -> bytes:
    """A text for Redis, lone surrogates too: a task id may be any text."""
    return text.encode("utf-8", "surrogatepass")


def lease_key(prefix: str, name: str) -> bytes:
    """The key that is there while a shipper lives."""
    return stream_key(prefix, f":lease:{name}", own=True)


def disk_key(prefix: str, lease: str) -> bytes:
    """The key that says where the archive of a worker lies which is on its own disk."""
    return stream_key(prefix, f":disk:{lease}", own=True)


def options() -> dict[str, Any]:
    """Of a connection. redis-py's own retries would repeat what was executed."""
    return {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT, "retry": Retry(NoBackoff(), 0)}


def redis_url(url: str) -> str:
    """Celery's URLs in redis-py's form."""
    return url.replace("redis+socket://", "unix://", 1)
