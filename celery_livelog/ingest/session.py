"""One connection over which somebody elsewhere writes logs. Knows no transport, only how to send and to close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec

from celery_livelog.access.tokens import Writer
from celery_livelog.cancel import cancel
from celery_livelog.errors import StoreError, complain
from celery_livelog.ingest.bearer import Bearer
from celery_livelog.ingest.inbox import Inbox
from celery_livelog.ingest.logs import Logs, Unavailable
from celery_livelog.ingest.over import GOES_AWAY, TOO_LARGE, UNAVAILABLE, Over
from celery_livelog.ingest.shipping import Stores
from celery_livelog.ingest.speaking import Speaking

#: Bytes of a message.
LONGEST = 512 * 1024
#: Seconds in which a connection must say who it is; for a last word to one that is let go.
_HELLO_SECONDS, _FAREWELL_SECONDS = 10.0, 1.0
#: Seconds that the longest wait for a token's end takes: loops cannot wait for years.
_LONG = 86_400.0


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
        self._send = send
        self._close = close
        self._bearer = Bearer(writer, authenticate)
        self._inbox = Inbox()
        self._speaking = Speaking(logs, stores, self._bearer, send)
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deal with what comes."""
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._watch())]
        self._speaking.start()

    async def receive(self, message: str | bytes) -> None:
        """Take a message; returns when the next one may come."""
        if self._over:
            return
        if len(message) > LONGEST:
            await self._end(Over(TOO_LARGE, "too_large", f"a message has at most {LONGEST} bytes"))
            return
        await self._inbox.put(message)

    async def stop(self) -> None:
        """Let go; what was taken is written."""
        self._over = True
        self._inbox.close()
        self._speaking.hurry()
        if self._tasks:
            work, watch = self._tasks
            await work
            await cancel(watch)
        await self._speaking.stop()

    async def go_away(self) -> None:
        """This side ends: the other one may try again."""
        await self._end(Over(GOES_AWAY, "goes_away", "the server ends; connect again"))

    async def _work(self) -> None:
        try:
            while messages := await self._inbox.take():
                await self._speaking.take(messages)
        except Over as over:
            await self._end(over)
        except Unavailable as error:
            await self._end(Over(UNAVAILABLE, "unavailable", str(error)))
        except StoreError:
            pass  # the connection is gone, and so is what it has sent of a new log while stores were away
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection only
            complain("a connection that writes logs fails", error)
            await self._end(Over(UNAVAILABLE, "unavailable", "try again later"))

    async def _watch(self) -> None:
        """Close the connection of who does not say who it is, or whose token ends."""
        await asyncio.sleep(0.0 if self._bearer.known else _HELLO_SECONDS)
        try:
            while True:
                left = self._bearer.writer.expires - time.time()
                await asyncio.sleep(min(max(left, 0.0) + 0.01, _LONG))
        except Over as over:
            await self._end(over)

    async def _end(self, over: Over) -> None:
        if self._over:
            return
        self._over = True
        error = {"type": "error", "code": over.code, "message": str(over)}
        with suppress(asyncio.TimeoutError):  # it may not read
            await asyncio.wait_for(self._tell(error), _FAREWELL_SECONDS)
        self._close(over.close, over.code)

    async def _tell(self, message: dict[str, str]) -> None:
        await self._send(msgspec.json.encode(message))
