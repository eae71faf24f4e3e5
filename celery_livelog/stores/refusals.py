"""What Redis' errors mean: for one key or for all, and what an operator can do about them."""

from __future__ import annotations

from typing import Any

import redis

#: A part of an error's name or text, and what can be done about it. The first that fits counts.
_ADVICE = (
    ("OutOfMemoryError", "raise its maxmemory or lower livelog_maxlen"),
    ("ReadOnlyError", "livelog_redis_url leads to a replica: let it lead to the primary"),
    ("NoPermission", "give its user the rights that docs/redis.md names"),
    ("Authentication", "correct the user or the password in livelog_redis_url"),
    ("max number of clients", "raise its maxclients"),
    ("MISCONF", "it cannot write to its disk: make room there"),
    ("BusyLoading", "wait: it is starting"),
)


def advice(error: BaseException) -> str:
    """What an operator can do about an error that Redis gives, or that keeps us from it."""
    return next(
        (what for kind, what in _ADVICE if kind in f"{type(error).__name__} {error}"), "is it up and reachable?"
    )


def is_error(answer: Any) -> bool:
    """Whether an answer is one."""
    return isinstance(answer, Exception)


def granted(answer: Any) -> Any:
    """The answer.

    :raises redis.RedisError: when it is an error.
    """
    if isinstance(answer, redis.RedisError):
        raise answer
    return answer


def is_of_key(answer: Any) -> bool:
    """Whether an answer is the refusal of one key: it holds no stream, or one whose ids are used up."""
    return isinstance(answer, redis.ResponseError) and str(answer).startswith(("WRONGTYPE", "The stream has exhausted"))
