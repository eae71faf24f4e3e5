"""The connection of a shipper to a relay: questions of several threads over one WebSocket, each with its own answer.

Rules:
- it is made by whoever asks first, and anew after it was lost, but not before a pause is over;
- nobody waits longer than they said, and a few seconds for a network that takes nothing.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import msgspec

from celery_livelog.errors import RelayError, RelayRefusal
from celery_livelog.stores.requests import AnyRequest, encode, parts

#: Seconds for each step of connecting, and for what is sent to be taken.
_TIMEOUT = 3.0
_SEND_TIMEOUT = struct.pack("ll", int(_TIMEOUT), 0)
#: Seconds between two signs of life of the other side, and until none means that it is gone.
_PING_SECONDS, _GONE_SECONDS = 5.0, 10.0
#: Seconds from a failure to the next connection: at first, at most; and by what part they vary.
_FIRST_PAUSE, _LONGEST_PAUSE, _JITTER = 0.1, 5.0, 0.5
#: Bytes of an answer: the segments of a very long log.
_LONGEST = 64 * 1024 * 1024


class _Answer(msgspec.Struct):
    """An answer, or else an error that ends the connection."""

    type: str
    id: int = 0
    value: Any = None
    error: str = ""
    forbidden: bool = False
    message: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


class Pending:
    """A question on its way."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._there = threading.Event()
        self._answer: _Answer | None = None
        self._error = ""

    def wait(self, timeout: float) -> Any:
        """The answer.

        :raises RelayError: when there is none in so many seconds.
        :raises RelayRefusal: when what was asked is not allowed.
        """
        if not self._there.wait(timeout):
            raise RelayError(f"{self._name} does not answer")
        if self._answer is None or self._answer.error:
            kind = RelayRefusal if self._answer is not None and self._answer.forbidden else RelayError
            raise kind(f"{self._name}: {self._error if self._answer is None else self._answer.error}")
        return self._answer.value

    def settle(self, answer: _Answer | None, error: str = "") -> None:
        """The answer is there, or will never be."""
        self._answer, self._error = answer, error
        self._there.set()


class Link:
    """The connection. May be used by any thread.

    :param url: ``wss://…``, or ``ws://…`` to this machine.
    :param token: gives the worker's token; asked for each connection.
    """

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self._url = url
        self._token = token
        self.name = f"the relay {urlsplit(url).hostname}"
        self._lock = threading.Lock()  # for all that follows but the sending of questions
        self._connection: Any = None
        self._pending: dict[int, Pending] = {}
        self._asked = 0
        self._pause, self._retry_at = _FIRST_PAUSE, 0.0
        self._why = f"{self.name} is not reached"
        self._closed = False

    def ask(self, request: AnyRequest, body: bytes = b"", *, timeout: float) -> Any:
        """Ask, and wait for the answer; see `Pending.wait`."""
        return self.start(request, body).wait(timeout)

    def start(self, request: AnyRequest, body: bytes = b"") -> Pending:
        """Ask.

        :raises RelayError: when the relay cannot be reached.
        """
        connection, pending = self._connected(), Pending(self.name)
        with self._lock:
            self._asked += 1
            request.id, request.size = self._asked, len(body)
            self._pending[request.id] = pending
        try:
            connection.send(encode(request).decode())
            for part in parts(request.id, body):
                connection.send(part)
        except Exception as error:  # whatever a library or the network raises
            self._lost(connection, str(error))
            raise RelayError(f"{self.name} is not reached: {error}") from error
        return pending

    def close(self) -> None:
        """Say good-bye."""
        self._closed = True
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> Any:
        with self._lock:
            if self._connection is not None:
                return self._connection
            if self._closed or time.monotonic() < self._retry_at:
                raise RelayError(f"{self._why}; it is tried again soon")
            try:
                self._connection = self._connect()
            except Exception as error:
                known = isinstance(error, RelayError)
                self._wait(str(error) if known else f"{self.name} is not reached: {type(error).__name__}: {error}")
                raise RelayError(self._why) from error
            self._pause = _FIRST_PAUSE
            threading.Thread(
                target=self._listen, args=(self._connection,), name="livelog-relay-answers", daemon=True
            ).start()
            return self._connection

    def _connect(self) -> Any:
        from websockets.sync.client import connect  # of those who have no relay, nobody needs it

        with ExitStack() as failing:
            connection = failing.enter_context(
                connect(
                    self._url,
                    additional_headers={"Authorization": f"Bearer {self._token()}"},
                    compression=None,  # what is long is packed
                    proxy=True if self._url.startswith("wss:") else None,  # none leads to this machine
                    open_timeout=_TIMEOUT,
                    close_timeout=_TIMEOUT,
                    ping_interval=_PING_SECONDS,
                    ping_timeout=_GONE_SECONDS,
                    max_size=_LONGEST,
                )
            )
            # Else a network that swallows all would hold up a sink for as long as the system likes.
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
            connection.send('{"type":"hello"}')
            answer = _decode(connection.recv(timeout=_TIMEOUT))
            if answer.type != "ready":
                raise RelayError(f"{self.name} does not let this worker in: {answer.message or answer.type}")
            failing.pop_all()
            return connection

    def _listen(self, connection: Any) -> None:
        why = "the connection is lost"
        try:
            for message in connection:
                answer = _decode(message)
                if answer.type == "error":
                    why = answer.message
                    continue
                pending = self._pending.pop(answer.id, None)
                if pending is not None:
                    pending.settle(answer)
        except Exception as error:  # noqa: BLE001 - whatever a library or the network raises
            why = str(error) if why == "the connection is lost" else why
        self._lost(connection, why)

    def _lost(self, connection: Any, why: str) -> None:
        """Nothing will come over a connection any more: who waits is told."""
        with self._lock:
            if self._connection is not connection:
                return
            self._connection = None
            self._wait(f"{self.name} is not reached: {why}")
            pending, self._pending = self._pending, {}
        for one in pending.values():
            one.settle(None, why)
        threading.Thread(target=connection.close, name="livelog-relay-close", daemon=True).start()

    def _wait(self, why: str) -> None:
        self._why = why
        self._retry_at = time.monotonic() + self._pause * random.uniform(1 - _JITTER, 1 + _JITTER)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
