"""What is said over one connection that writes logs: who it is, lines and what else makes a log, requests of a shipper.

Rules:
- nothing is sent to who does not count its messages, but errors: it may never read;
- a message that cannot be used ends the connection only when it is the first, or one of many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from celery_livelog.errors import StoreError, complain
from celery_livelog.ingest.acknowledging import Acknowledging
from celery_livelog.ingest.bearer import Bearer
from celery_livelog.ingest.known import Known
from celery_livelog.ingest.log import Log
from celery_livelog.ingest.logs import Logs
from celery_livelog.ingest.messages import BadMessage, EndMessage, LogMessage, parse
from celery_livelog.ingest.over import BAD, FORBIDDEN, TOO_MANY, Over
from celery_livelog.ingest.shipping import Shipping, Stores
from celery_livelog.ingest.writers import NotYours
from celery_livelog.stores.requests import TYPES, is_part

PROTOCOL = 1
#: Messages that cannot be used, or tasks that may not be written, after which the connection is closed.
_MOST_BAD = 20
#: Logs that one connection may write at a time.
_MOST_LOGS = 1000
#: Seconds between two questions to stores that do not answer.
_STORE_SECONDS = 1.0


class _Head(msgspec.Struct):
    type: str = ""
    #: Of a hello.
    token: str = ""


_head = msgspec.json.Decoder(_Head).decode


class Speaking:
    """What comes, in order. All of it may raise `Over`.

    :param send: sends a message.
    """

    def __init__(self, logs: Logs, stores: Stores, bearer: Bearer, send: Callable[[bytes], Awaitable[Any]]) -> None:
        self._logs = logs
        self._bearer = bearer
        self._send = send
        self._acknowledging = Acknowledging(send)
        self._shipping = Shipping(stores, Known(bearer.last, stores.owners), send)
        #: The logs that it writes, by the task's id and the attempt's name.
        self._writing: dict[tuple[str, str], Log] = {}
        self._batch: list[tuple[Log, LogMessage, int]] = []
        self._refused: set[str] = set()
        self._first, self._bad = True, 0
        self._gone = False

    def start(self) -> None:
        """Begin."""
        self._acknowledging.start()

    def hurry(self) -> None:
        """Nothing more comes: what is here is to be dealt with."""
        self._gone = True
        self._acknowledging.hurry()

    async def stop(self) -> None:
        """Leave all logs."""
        await self._acknowledging.stop()
        await self._shipping.stop()

    async def take(self, messages: list[str | bytes]) -> None:
        """Deal with messages."""
        for text in messages:
            try:
                await self._hear(text)
                self._first = False
            except BadMessage as error:
                self._bad += 1
                if self._first or self._bad > _MOST_BAD:
                    raise Over(BAD, "bad_message", str(error)) from None
                await self._tell("bad_message", str(error))
        await self._feed()

    async def _hear(self, text: str | bytes) -> None:
        if is_part(text):
            self._bearer.writer  # noqa: B018 - raises
            await self._shipping.body(text)
            return
        try:
            head = _head(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadMessage(f"not a message: {str(error)[:200]}; expected a JSON object with a type") from None
        if head.type == "hello" and head.token:
            self._bearer.show(head.token)
        self._bearer.writer  # noqa: B018 - raises
        if head.type == "hello":
            await self._send(msgspec.json.encode({"type": "ready", "protocol": PROTOCOL}))
        elif head.type in TYPES:
            await self._shipping.head(text)
        else:
            await self._write(parse(text), len(text))

    async def _write(self, message: LogMessage, size: int) -> None:
        if message.task in self._refused:
            return
        try:
            log = await self._log(message)
        except NotYours as error:
            self._refused.add(message.task)
            if len(self._refused) > _MOST_BAD:
                raise Over(FORBIDDEN, "forbidden", str(error)) from None
            await self._tell("forbidden", str(error), task_id=message.task)
            return
        self._batch.append((log, message, size))

    async def _log(self, message: LogMessage) -> Log:
        place = message.task, str(message.attempt)
        log = self._writing.get(place)
        if log is None:
            if len(self._writing) >= _MOST_LOGS:
                raise Over(TOO_MANY, "too_many", f"a connection writes at most {_MOST_LOGS} logs at a time")
            await self._feed()  # what is before it may be what it goes on with
            log = self._writing[place] = await self._open(message)
        if isinstance(message, EndMessage):
            del self._writing[place]
        return log

    async def _open(self, message: LogMessage) -> Log:
        """The log of a message. While the stores do not tell, the connection is held back."""
        while True:
            try:
                log = await self._logs.open(self._bearer.writer, message, self._acknowledging.heard)
                break
            except StoreError as error:
                complain("a log from elsewhere waits", error)
                if self._gone:
                    raise
            await asyncio.sleep(_STORE_SECONDS)
        if message.attempt and log.given_up:
            what = f"attempt {str(message.attempt)[:60]!r} of task {message.task[:60]!r} was given up"
            await self._tell("over", what, task_id=message.task)
        return log

    async def _feed(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            await self._logs.feed(batch)
            await self._acknowledging.fed(batch)

    async def _tell(self, code: str, message: str, **more: str) -> None:
        await self._send(msgspec.json.encode({"type": "error", "code": code, "message": message, **more}))
