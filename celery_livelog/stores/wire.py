"""Many commands to Redis in one go, on a connection of one thread.

redis-py's own pipeline takes five times as long, which would be a third of all that a shipper does about a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
import redis

#: Bytes that are sent by one call: the connection's timeout is for each.
_SEND_BYTES = 64 * 1024


def packed(*command: str | bytes | int) -> bytes:
    """A command as Redis wants it."""
    return bytes(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub knows tuples of one only


class Wire:
    """A connection like those of `client`, made when it is first used."""

    def __init__(self, client: redis.Redis) -> None:
        self._connection: Any = client.connection_pool.make_connection()

    def execute(self, commands: Sequence[bytes]) -> list[Any]:
        """Send packed commands and give their answers; a refused one's is the error.

        :raises redis.RedisError: when Redis is away.
        """
        if self._is_stale():
            self._connection.disconnect()
        data = b"".join(commands)
        self._connection.send_packed_command([data[at : at + _SEND_BYTES] for at in range(0, len(data), _SEND_BYTES)])
        return [self._answer() for _ in commands]

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    def _is_stale(self) -> bool:
        """Whether the server has closed the connection, as some do when nothing was said for long."""
        try:
            return bool(self._connection.can_read())
        except redis.RedisError:
            return True

    def _answer(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return error
