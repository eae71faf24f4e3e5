"""What Redis' errors mean: what an operator is told to do, and whether it is one key's trouble or everybody's."""

from __future__ import annotations

import pytest
import redis

from celery_livelog.stores.refusals import advice, granted, is_error, is_of_key


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "maxmemory"),
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), "replica"),
        (redis.exceptions.NoPermissionError("this user has no permissions"), "docs/redis.md"),
        (redis.exceptions.AuthenticationError("invalid username-password pair"), "password"),
        (redis.exceptions.ConnectionError("max number of clients reached"), "maxclients"),
        (redis.exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "disk"),
        (redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "starting"),
        (redis.exceptions.TimeoutError("Timeout reading from socket"), "up and reachable"),
        (OSError(111, "Connection refused"), "up and reachable"),
    ],
)
def test_each_error_has_its_advice(error: Exception, expected: str) -> None:
    assert expected in advice(error)


def test_an_answer_is_given_or_raised() -> None:
    """A pipeline gives errors as answers."""
    refused = redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert granted(b"1-0") == b"1-0"
    assert (is_error(refused), is_of_key(refused), is_of_key(b"1-0")) == (True, True, False)
    assert not is_of_key(redis.exceptions.OutOfMemoryError("OOM"))
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        granted(refused)
