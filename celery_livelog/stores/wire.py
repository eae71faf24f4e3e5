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


def packed(*command: str | bytes | int | float) -> bytes:
    """A command as Redis wants it."""
    return bytes(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub knows tuples of one only


class Wire:
    """A connection like those of `client`, made when it is first used.

    :param greeting: a packed command that is asked first on every new connection: when it is refused, nothing follows.
    """

    def __init__(self, client: redis.Redis, greeting: bytes) -> None:
        self._connection: Any = client.connection_pool.make_connection()
        self._greeting = greeting
        self._open = False

    def execute(self, commands: Sequence[bytes]) -> list[Any]:
        """Send packed commands and give their answers; a refused one's is the error.

        :raises redis.RedisError: when Redis is away, or refuses the greeting.
        """
        try:
            if self._open and self._is_stale():
                self.close()
            if not self._open:
                self._greet()
            return self._exchange(commands)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next use makes it anew."""
        self._open = False
        self._connection.disconnect()

    def _greet(self) -> None:
        self._connection.connect()
        (answer,) = self._exchange([self._greeting])
        if isinstance(answer, Exception):
            raise answer
        self._open = True

    def _exchange(self, commands: Sequence[bytes]) -> list[Any]:
        data = b"".join(commands)
        self._connection.send_packed_command([data[at : at + _SEND_BYTES] for at in range(0, len(data), _SEND_BYTES)])
        return [self._answer() for _ in commands]

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
