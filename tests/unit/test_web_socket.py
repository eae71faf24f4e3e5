"""What carries a session's messages: peers that are dead, and those that send whatever happens."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from celery_livelog.web.sessions import Session
from celery_livelog.web.socket import SessionSocket

_LONG = 20.0


class Hearing:
    """A session that counts what it hears and closes after so many messages."""

    def __init__(self, close: Callable[[int, str], None], patience: int) -> None:
        self.heard = 0
        self.stopped = asyncio.Event()
        self._close = close
        self._patience = patience

    def start(self) -> None:
        """Say nothing."""

    def receive(self, message: str | bytes) -> Awaitable[None] | None:
        self.heard += 1
        if self.heard == self._patience:
            self._close(4429, "too_many")
        return None

    async def stop(self) -> None:
        self.stopped.set()


async def _served(visit: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]) -> Hearing:
    """Open a WebSocket and let `visit` do with it as it likes; give the session that there was."""
    sessions: list[Hearing] = []

    class Socket(SessionSocket):
        async def session(self) -> Session:
            sessions.append(Hearing(self.close, patience=10))
            return sessions[0]

    (listening,) = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([("/", Socket)]))
    server.add_socket(listening)
    port = listening.getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(bytes(16)).decode()
    head = f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await visit(reader, writer)
    await asyncio.wait_for(sessions[0].stopped.wait(), _LONG)
    writer.close()
    server.stop()
    await server.close_all_connections()
    return sessions[0]


def test_a_peer_that_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers no ping, and so it is hung up, and what it held is let go."""
    monkeypatch.setattr(SessionSocket, "ping_interval", 0.05)

    async def lie_dead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        while b"\x88" not in said:  # a close; pings are b"\x89"
            said += await asyncio.wait_for(reader.read(100), _LONG)
        assert said[:1] == b"\x89"
        writer.close()

    assert asyncio.run(_served(lie_dead)).heard == 0


def test_one_that_sends_whatever_happens() -> None:
    """After a close nothing of what it sends is heard, and soon it is cut off."""
    frame = struct.pack("!BB", 0x81, 0x80 | 2) + bytes(4) + b"{}"

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(frame * 1000)
                await writer.drain()
        except ConnectionError:
            pass

    assert asyncio.run(_served(flood)).heard == 10
