"""Sessions of `/ingest` in the test's own process, without a network."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from celery_livelog.ingest import Ingest
from celery_livelog.ingest.session import Session
from celery_livelog.settings import Settings
from celery_livelog.stores import requests
from celery_livelog.tokens import Tokens, Writer
from tests.nodes.ingest import KEY, token


class Connection:
    """A client's end: what it was told, and with what it was closed."""

    def __init__(self, ingest: Ingest, writer: Writer | None) -> None:
        self.told: list[dict[str, Any]] = []
        self.closed: list[int] = []
        self._asked = 0
        authenticate = lambda text: Tokens([KEY]).writer(text, time.time())  # noqa: E731
        self.session: Session = ingest.session(
            self._hear, lambda code, _: self.closed.append(code), writer=writer, authenticate=authenticate
        )
        self.session.start()

    async def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.session.receive(json.dumps(message))

    async def ask(self, request: requests.AnyRequest, body: bytes = b"") -> requests.Answer:
        """Send a request with its body, and wait for the answer."""
        self._asked += 1
        request.id, request.size = self._asked, len(body)
        await self.session.receive(requests.encode(request).decode())
        for part in requests.parts(request.id, body):
            await self.session.receive(part)
        await until(lambda: any(told.get("id") == request.id for told in self.told))
        (answer,) = (told for told in self.told if told.get("id") == request.id)
        return msgspec.convert(answer, requests.Answer)

    @property
    def acknowledged(self) -> int:
        return max((told["seq"] for told in self.told if told["type"] == "ack"), default=0)

    async def _hear(self, message: bytes) -> None:
        self.told.append(json.loads(message))


def writer(name: str = "", account: str = "", **what: Any) -> Writer:
    return Tokens([KEY]).writer(token(name, account=account, **what), time.time())


@asynccontextmanager
async def connected(ingest: Ingest, who: Writer | None) -> AsyncIterator[Connection]:
    connection = Connection(ingest, who)
    try:
        yield connection
    finally:
        await connection.session.stop()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that is told on this loop; `wait_for` would hold it up."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"waited 30 s for {condition}"
        await asyncio.sleep(0.01)


def run(settings: Settings, story: Callable[[Ingest], Awaitable[None]]) -> None:
    async def told() -> None:
        ingest = Ingest(settings)
        try:
            await story(ingest)
        finally:
            await ingest.close()

    asyncio.run(told())
