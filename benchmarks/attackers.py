"""Hostile clients of a relay in one process, as many at once as the relay lets in, each again and again.

``python -m benchmarks.attackers URL TASK_ID KEY SECONDS`` prints ``ready`` when they begin, and then what they got.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from celery_livelog.access.tokens import Tokens
from celery_livelog.cancel import cancel

#: How many of each kind there are at once, and how long one rests between two tries: clients elsewhere have to travel.
_EACH, _PAUSE = 5, 0.02
_HALF_OPEN = 100


class Attackers:
    """All of them, and what they got."""

    def __init__(self, url: str, task_id: str, key: str) -> None:
        self._url = url
        self._task_id = task_id
        later = time.time() + 3600
        self._other = Tokens([key]).view(task_id=task_id[:-1], expires=later)
        self._forged = [
            Tokens(["of-another"]).view(task_id=task_id, expires=later),
            Tokens([key]).view(task_id=task_id, expires=time.time() - 1),
            Tokens([key]).write(ids=[task_id], expires=later),
            self._other.partition(".")[0] + ".x",
        ]
        self.tries: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()
        self.records = 0

    async def run(self, seconds: float) -> None:
        """Attack for so long."""
        kinds = [self.forge, self.swap, self.pretend, self.mumble, self.swell, self.flood, self.ask]
        working = [asyncio.create_task(self._again(kind)) for kind in kinds for _ in range(_EACH)]
        working += [asyncio.create_task(self._half_open()) for _ in range(_HALF_OPEN)]
        print("ready", flush=True)
        await asyncio.sleep(seconds)
        await cancel(*working)
        print(json.dumps({"tries": self.tries, "codes": self.codes, "records": self.records}), flush=True)

    async def forge(self) -> None:
        """Tokens of another key, over, for writing, made up."""
        for token in self._forged:
            async with self._socket() as socket:
                await self._say(socket, token)

    async def swap(self) -> None:
        """A good token, for a task whose id is nearly this one's."""
        async with self._socket() as socket:
            await self._say(socket, self._other, wait=0.2)

    async def pretend(self) -> None:
        """A page of another site."""
        async with self._socket(Origin("https://evil.example")) as socket:
            await self._say(socket, self._other)

    async def mumble(self) -> None:
        """What is no message."""
        for message in (b"\x00" * 200, "[" * 60_000, '{"type":', '{"type":"none"}'):
            async with self._socket() as socket:
                await socket.send(message)
                await self._hear(socket)

    async def swell(self) -> None:
        """Messages that are far too long."""
        for size in (70_000, 900_000, 3_000_000):
            async with self._socket() as socket:
                await socket.send("x" * size)
                await self._hear(socket)

    async def flood(self) -> None:
        """More messages than anybody has to say."""
        async with self._socket() as socket:
            await self._say(socket, self._other, wait=0)
            while True:
                await socket.send('{"type":"resume"}')
                await asyncio.sleep(0)

    async def ask(self) -> None:
        """Requests without end."""
        place = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        path = f"/api/tasks/{self._task_id}/log?follow=1"
        head = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {self._forged[0]}\r\n\r\n"
        try:
            for _ in range(20):
                writer.write(head.encode())
                answer = await reader.readuntil(b"\r\n\r\n")
                self.codes[int(answer.split()[1])] += 1
                await reader.readuntil(b"}")
        finally:
            writer.close()

    async def _half_open(self) -> None:
        """A request that never ends."""
        place = urlsplit(self._url)
        while True:
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
            self.tries["half open"] += 1
            try:
                await reader.read()
            except OSError:
                pass
            finally:
                writer.close()

    async def _again(self, attack: Callable[[], Awaitable[None]]) -> None:
        while True:
            self.tries[attack.__name__] += 1
            try:
                await attack()
            except (OSError, ConnectionClosed, EOFError, asyncio.TimeoutError):
                pass
            await asyncio.sleep(_PAUSE)

    def _socket(self, origin: Origin | None = None) -> connect:
        return connect(self._url.replace("http", "ws", 1) + "/ws", origin=origin, proxy=None, close_timeout=1)

    async def _say(self, socket: ClientConnection, token: str, wait: float = 5) -> None:
        await socket.send(json.dumps({"type": "subscribe", "task_id": self._task_id, "token": token}))
        if wait:
            await self._hear(socket, wait)

    async def _hear(self, socket: ClientConnection, wait: float = 5) -> None:
        """Listen until the server hangs up, or for so long."""

        async def listen() -> None:
            async for message in socket:
                self.records += len(json.loads(message).get("records", ()))

        try:
            await asyncio.wait_for(listen(), wait)
        except (asyncio.TimeoutError, ConnectionClosed):
            pass
        self.codes[socket.close_code or 0] += 1


if __name__ == "__main__":
    os.nice(10)  # in truth they would have processors of their own
    url, task_id, key, seconds = sys.argv[1:]
    asyncio.run(Attackers(url, task_id, key).run(float(seconds)))
