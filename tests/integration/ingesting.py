"""Messages for `/ingest` and what becomes of them; sessions in the test's own process, without a network."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from celery_livelog.access.tokens import Tokens, Writer
from celery_livelog.attempts import Attempt
from celery_livelog.ingest import Ingest
from celery_livelog.ingest.session import Session
from celery_livelog.reader import Reader
from celery_livelog.records import Record
from celery_livelog.settings import Settings
from celery_livelog.stores import requests
from tests.nodes.ingest import KEY, token
from tests.nodes.waiting import wait_for

AT = "2026-05-09T14:23:01+00:00"
LATER = "2026-05-09T14:25:00+00:00"


def line(number: int, task: int | str = 42, **more: Any) -> dict[str, Any]:
    """A message as the sender's own document has it."""
    said = {"line": f"line {number}", "timestamp": AT, "stream": "stdout"}
    return {"type": "log_line", "work_request_id": task, **said, **more}


def end(task: int | str = 42, exit_code: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "log_line_end", "work_request_id": task, "exit_code": exit_code, "timestamp": LATER, **more}


Found = tuple[list[Attempt], list[Record]]


def ask_all(settings: Settings, tasks: list[str]) -> dict[str, Found]:
    """What a reader finds of each task."""

    async def found(reader: Reader, task_id: str) -> Found:
        records = [record async for batch in reader.log(task_id) for record in batch.records]
        return await reader.attempts(task_id), records

    async def asked() -> dict[str, Found]:
        reader = Reader(settings)
        try:
            return {task_id: await found(reader, task_id) for task_id in tasks}
        finally:
            await reader.close()

    return asyncio.run(asked())


def ask(settings: Settings, task_id: str) -> Found:
    """What a reader finds of a task."""
    return ask_all(settings, [task_id])[task_id]


def archived(settings: Settings, task_id: str = "42", count: int = 1) -> list[Record]:
    """The records of a task whose attempts are over, as soon as all is archived."""

    def there() -> list[Record] | None:
        attempts, records = ask(settings, task_id)
        return records if sum(bool(attempt.archive) for attempt in attempts) == count else None

    return wait_for(there, what=f"the archive of {task_id}") or []


def shown(records: list[Record]) -> list[str]:
    return [record.text for record in records]


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
