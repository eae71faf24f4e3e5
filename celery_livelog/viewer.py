"""One viewer's session: messages in, a task's records out. Knows no transport; it is given how to send and to close."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from celery_livelog.cancel import cancel
from celery_livelog.cursors import Cursor
from celery_livelog.errors import CursorError, LivelogError
from celery_livelog.merge import Batch
from celery_livelog.reader import Reader
from celery_livelog.records import Partial

PROTOCOL = 1

#: Bytes that a viewer which acknowledges may have before it without an acknowledgement.
_WINDOW = 64 * 1024
_MESSAGE_RECORDS = 200
_HEARTBEAT_SECONDS = 15.0
#: Bytes of a message from a viewer.
_LONGEST = 4096


class _Command(msgspec.Struct):
    """A message from a viewer."""

    type: str
    task_id: str = ""
    after: str | None = None
    tail: int | None = None
    token: str | None = None
    n: int = 0
    attempt: str = ""


class ViewerSession:
    """A session. `start` it, pass it what the viewer sends, `stop` it when the viewer is gone.

    :param send: sends a message; its completion is the transport's backpressure.
    :param close: closes the connection with a WebSocket code and a reason.
    """

    def __init__(
        self, reader: Reader, send: Callable[[bytes], Awaitable[Any]], close: Callable[[int, str], None]
    ) -> None:
        self._reader = reader
        self._send = send
        self._close = close
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._outstanding: deque[tuple[str, int, int]] = deque()
        self._acknowledges = False
        self._acknowledged = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._refusals: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Greet the viewer and keep the connection alive."""
        self._tasks["heartbeat"] = asyncio.create_task(self._greet())

    def receive(self, message: str | bytes) -> None:
        """Do what the viewer asks."""
        try:
            if len(message) > _LONGEST:
                raise ValueError
            command = msgspec.json.decode(message, type=_Command)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self._refuse("bad_message", "expected a JSON object with a type, such as subscribe")
            return
        if command.type == "subscribe":
            self._subscribe(command)
        elif command.type == "ack":
            self._acknowledge(command)
        elif command.type == "pause":
            self._flowing.clear()
        elif command.type == "resume":
            self._flowing.set()
        else:
            self._refuse("unknown_command", "expected subscribe, ack, pause or resume")

    async def stop(self) -> None:
        """End everything that the session does."""
        await cancel(*self._tasks.values(), *self._refusals)

    def _subscribe(self, command: _Command) -> None:
        try:
            after = Cursor.parse(command.after) if command.after else None
        except CursorError as error:
            self._refuse("bad_cursor", str(error))
            return
        if not command.task_id or (command.tail is not None and command.tail < 0):
            self._refuse("bad_message", "expected a task_id, and a tail of 0 or more")
            return
        self._outstanding.clear()
        before = self._tasks.get("log")
        self._tasks["log"] = asyncio.create_task(self._serve(before, command.task_id, after, command.tail))

    def _acknowledge(self, command: _Command) -> None:
        """Let go of all up to what is acknowledged; one that names no attempt is of the oldest."""
        self._acknowledges = True
        of = command.attempt or (self._outstanding[0][0] if self._outstanding else "")
        reached = [
            place for place, (attempt, n, _) in enumerate(self._outstanding, 1) if attempt == of and n <= command.n
        ]
        for _ in range(max(reached, default=0)):
            self._outstanding.popleft()
        self._acknowledged.set()

    async def _greet(self) -> None:
        await self._send(msgspec.json.encode({"type": "hello", "protocol": PROTOCOL, "window": _WINDOW}))
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            await self._send(b'{"type":"heartbeat"}')

    async def _serve(
        self, before: asyncio.Task[None] | None, task_id: str, after: Cursor | None, tail: int | None
    ) -> None:
        if before is not None:
            await cancel(before)
        try:
            async for batch in self._reader.log(task_id, after=after, tail=tail, follow=True):
                for start in range(0, len(batch.records), _MESSAGE_RECORDS):
                    records = batch.records[start : start + _MESSAGE_RECORDS]
                    await self._deliver(Batch(batch.attempt, batch.number, records))
        except LivelogError as error:
            await self._send(_error("unavailable", str(error)))
            self._close(1011, "unavailable")
            return
        self._close(1000, "")

    async def _deliver(self, batch: Batch) -> None:
        await self._flowing.wait()
        fields = {"type": "records", "attempt": batch.attempt, "number": batch.number, "records": batch.records}
        message = msgspec.json.encode(fields)
        await self._send(message)
        numbered = [record.n for record in batch.records if not isinstance(record, Partial)]
        if self._acknowledges and numbered:
            self._outstanding.append((batch.attempt, numbered[-1], len(message)))
        while self._acknowledges and sum(size for _, _, size in self._outstanding) > _WINDOW:
            self._acknowledged.clear()
            await self._acknowledged.wait()

    def _refuse(self, code: str, message: str) -> None:
        async def tell() -> None:
            await self._send(_error(code, message))

        task = asyncio.create_task(tell())
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)


def _error(code: str, message: str) -> bytes:
    return msgspec.json.encode({"type": "error", "code": code, "message": message})
