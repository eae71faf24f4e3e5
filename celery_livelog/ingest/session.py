"""One connection over which somebody elsewhere writes logs. Knows no transport; it is given how to send and to close.

Rules:
- nothing is sent to who does not count its messages, but errors: it may never read;
- a message that cannot be used ends the connection only when it is the first, or one of many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec

from celery_livelog.cancel import cancel
from celery_livelog.errors import StoreError, TokenError, complain
from celery_livelog.ingest import writers
from celery_livelog.ingest.acknowledging import Acknowledging
from celery_livelog.ingest.inbox import Inbox
from celery_livelog.ingest.known import Known
from celery_livelog.ingest.log import Log
from celery_livelog.ingest.logs import Logs, Unavailable
from celery_livelog.ingest.messages import BadMessage, EndMessage, LogMessage, parse
from celery_livelog.ingest.shipping import Shipping, Stores
from celery_livelog.ingest.writers import NotYours
from celery_livelog.stores.requests import TYPES, is_part
from celery_livelog.tokens import Writer

PROTOCOL = 1
#: Bytes of a message.
LONGEST = 512 * 1024
#: Seconds between two questions to stores that do not answer; for a last word to one that is let go.
_STORE_SECONDS, _FAREWELL_SECONDS = 1.0, 1.0
#: Seconds in which a connection must say who it is.
_HELLO_SECONDS = 10.0
#: Messages that cannot be used, or tasks that may not be written, after which the connection is closed.
_MOST_BAD = 20
#: Logs that one connection may write at a time.
_MOST_LOGS = 1000
#: Seconds that the longest wait for a token's end takes: loops cannot wait for years.
_LONG = 86_400.0

GOES_AWAY, UNAVAILABLE, BAD, UNAUTHORIZED, FORBIDDEN, TOO_LARGE, TOO_MANY = 1001, 1011, 4400, 4401, 4404, 4413, 4429


class _Head(msgspec.Struct):
    type: str = ""


class _Hello(msgspec.Struct):
    token: str = ""


class _Over(Exception):
    """Ends the connection with a code, after an error message."""

    def __init__(self, close: int, code: str, message: str) -> None:
        super().__init__(message)
        self.close, self.code = close, code


_head = msgspec.json.Decoder(_Head).decode
_hello = msgspec.json.Decoder(_Hello).decode


class Session:
    """A session. `start` it, pass it what comes, `stop` it when the connection is gone.

    :param send: sends a message; its completion is the transport's backpressure.
    :param close: closes the connection with a WebSocket code and a reason.
    :param writer: who it is, if that is known; else the first message says it.
    :param authenticate: tells the writer of a token, or raises `TokenError`.
    """

    def __init__(
        self,
        logs: Logs,
        stores: Stores,
        send: Callable[[bytes], Awaitable[Any]],
        close: Callable[[int, str], None],
        *,
        writer: Writer | None,
        authenticate: Callable[[str], Writer] | None = None,
    ) -> None:
        self._logs = logs
        self._send = send
        self._close = close
        self._writer = writer
        self._authenticate = authenticate
        self._inbox = Inbox()
        self._writing: dict[tuple[str, str], Log] = {}
        self._acknowledging = Acknowledging(send)
        self._shipping = Shipping(stores, Known(self._who, stores.owners), send)
        self._refused: set[str] = set()
        self._first, self._bad = True, 0
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deal with what comes."""
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._watch())]
        self._acknowledging.start()

    async def receive(self, message: str | bytes) -> None:
        """Take a message; returns when the next one may come."""
        if self._closed:
            return
        if len(message) > LONGEST:
            await self._end(_Over(TOO_LARGE, "too_large", f"a message has at most {LONGEST} bytes"))
            return
        await self._inbox.put(message)

    async def stop(self) -> None:
        """Let go; what was taken is written."""
        self._closed = True
        self._inbox.close()
        self._acknowledging.hurry()
        if self._tasks:
            work, watch = self._tasks
            await work
            await cancel(watch)
        await self._acknowledging.stop()
        await self._shipping.stop()

    async def go_away(self) -> None:
        """This side ends: the other one may try again."""
        await self._end(_Over(GOES_AWAY, "goes_away", "the server ends; connect again"))

    async def _work(self) -> None:
        try:
            while messages := await self._inbox.take():
                await self._take(messages)
        except _Over as over:
            await self._end(over)
        except Unavailable as error:
            await self._end(_Over(UNAVAILABLE, "unavailable", str(error)))
        except StoreError:
            pass  # the connection is gone, and so is what it has sent of a new log while stores were away
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection only
            complain("a connection that writes logs fails", error)
            await self._end(_Over(UNAVAILABLE, "unavailable", "try again later"))

    async def _take(self, messages: list[str | bytes]) -> None:
        batch: list[tuple[Log, LogMessage, int]] = []
        message: LogMessage | None
        for text in messages:
            message = None
            try:
                message = await self._understand(text)
                if message is not None:
                    batch.append((await self._log(message, batch), message, len(text)))
                    self._first = False
            except BadMessage as error:
                self._bad += 1
                if self._first or self._bad > _MOST_BAD:
                    raise _Over(BAD, "bad_message", str(error)) from None
                await self._tell("bad_message", str(error))
            except NotYours as error:
                await self._refuse(message.task if message is not None else "", str(error))
        await self._feed(batch)

    async def _understand(self, text: str | bytes) -> LogMessage | None:
        """The message about a log; None when it was another, which is dealt with then."""
        try:
            kind = "" if is_part(text) else _head(text).type
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadMessage(f"not a message: {str(error)[:200]}; expected a JSON object with a type") from None
        if kind == "hello":
            await self._greet(text)
            return None
        self._known()
        if is_part(text):
            await self._shipping.body(text)
            return None
        if kind in TYPES:
            await self._shipping.head(text)
            return None
        message = parse(text)
        return None if message.task in self._refused else message

    async def _log(self, message: LogMessage, batch: list[tuple[Log, LogMessage, int]]) -> Log:
        place = message.task, str(message.attempt)
        log = self._writing.get(place)
        if log is None:
            if len(self._writing) >= _MOST_LOGS:
                raise _Over(TOO_MANY, "too_many", f"a connection writes at most {_MOST_LOGS} logs at a time")
            await self._feed(batch)  # what is before it may be what it goes on with
            log = self._writing[place] = await self._open(message)
            if message.attempt and log.given_up:
                await self._tell("over", f"attempt {place[1][:60]!r} of task {place[0][:60]!r} was given up")
        if isinstance(message, EndMessage):
            del self._writing[place]
        return log

    async def _open(self, message: LogMessage) -> Log:
        """The log of a message. While the stores do not tell, the connection is held back."""
        while True:
            try:
                return await self._logs.open(self._known(), message, self._acknowledging.heard)
            except StoreError as error:
                complain("a log from elsewhere waits", error)
                if self._closed:
                    raise
            await asyncio.sleep(_STORE_SECONDS)

    async def _feed(self, batch: list[tuple[Log, LogMessage, int]]) -> None:
        if batch:
            await self._logs.feed(batch)
            await self._acknowledging.fed(batch)
            batch.clear()

    async def _greet(self, text: str | bytes) -> None:
        try:
            token = _hello(text).token
        except msgspec.MsgspecError as error:
            raise BadMessage(f"hello: {error}") from None
        if token and self._authenticate is not None:
            try:
                writer = self._authenticate(token)
            except TokenError as error:
                raise _Over(UNAUTHORIZED, "unauthorized", str(error)) from None
            if self._writer is not None and writers.identity(writer) != writers.identity(self._writer):
                raise _Over(UNAUTHORIZED, "unauthorized", "the token is another writer's: connect anew with it")
            self._writer = writer
        self._known()
        self._first = False
        await self._send(msgspec.json.encode({"type": "ready", "protocol": PROTOCOL}))

    def _who(self) -> Writer:
        assert self._writer is not None
        return self._writer

    def _known(self) -> Writer:
        """Who writes."""
        if self._writer is None:
            raise _Over(UNAUTHORIZED, "unauthorized", "expected a token, as bearer or in a hello")
        if time.time() >= self._writer.expires:
            raise _Over(UNAUTHORIZED, "unauthorized", "the token has expired")
        return self._writer

    async def _watch(self) -> None:
        """Close the connection of who does not say who it is, or whose token ends."""
        await asyncio.sleep(_HELLO_SECONDS if self._writer is None else 0.0)
        try:
            while True:
                left = self._known().expires - time.time()
                await asyncio.sleep(min(max(left, 0.0) + 0.01, _LONG))
        except _Over as over:
            await self._end(over)

    async def _refuse(self, task_id: str, why: str) -> None:
        self._refused.add(task_id)
        if len(self._refused) > _MOST_BAD:
            raise _Over(FORBIDDEN, "forbidden", why)
        await self._tell("forbidden", why, task_id=task_id)

    async def _end(self, over: _Over) -> None:
        if self._closed:
            return
        self._closed = True
        with suppress(asyncio.TimeoutError):  # it may not read
            await asyncio.wait_for(self._tell(over.code, str(over)), _FAREWELL_SECONDS)
        self._close(over.close, over.code)

    async def _tell(self, code: str, message: str, **more: str) -> None:
        await self._send(msgspec.json.encode({"type": "error", "code": code, "message": message, **more}))
