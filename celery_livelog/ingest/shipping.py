"""The requests of one connection over which a shipper elsewhere speaks: put together, done in order, answered.

There are three lanes, as there are three kinds of stores, so that none waits for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import redis
from sqlalchemy.exc import SQLAlchemyError

from celery_livelog.cancel import cancel
from celery_livelog.errors import LivelogError, complain
from celery_livelog.ingest.known import Known
from celery_livelog.ingest.messages import BadMessage
from celery_livelog.ingest.owners import Owners
from celery_livelog.ingest.shipped_archive import ShippedArchive
from celery_livelog.ingest.shipped_rows import ShippedRows
from celery_livelog.ingest.shipped_streams import ShippedStreams
from celery_livelog.ingest.writers import NotYours
from celery_livelog.settings import Settings
from celery_livelog.stores.archive import Archive
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.requests import (
    LONGEST_BODY,
    Answer,
    AnyRequest,
    Archived,
    LastN,
    Lease,
    PutRows,
    Records,
    decode,
    encode,
    part,
)

#: Bytes of bodies of one connection that may be here at a time, beside the one that comes.
_MOST_BYTES = 16 * 1024 * 1024
#: Bytes of records for the live stream in one request.
_MOST_RECORDS = 8 * 1024 * 1024
#: Requests that may wait.
_MOST_WAITING = 1000
#: Threads that wait for archives and databases.
_THREADS = 8

_Work = tuple[AnyRequest, bytes]


class Stores:
    """The stores here, with the threads that wait for them; those of the server's own are not held up."""

    def __init__(self, settings: Settings, owners: Owners) -> None:
        archive, self._catalog = Archive(settings.archive_url), Catalog(settings.database_url)
        self.owners = owners
        self.streams = ShippedStreams(settings)
        self.archive = ShippedArchive(archive)
        self.rows = ShippedRows(self._catalog, archive)
        self.one = ThreadPoolExecutor(1, "livelog-ingest-stream")
        self.some = ThreadPoolExecutor(_THREADS, "livelog-ingest-store")

    def close(self) -> None:
        """Let go, after what is being done."""
        self.one.shutdown()
        self.some.shutdown()
        self.streams.close()
        self._catalog.close()


class Shipping:
    """The requests.

    :param known: what is known of the connection.
    :param send: sends an answer.
    """

    def __init__(self, stores: Stores, known: Known, send: Callable[[bytes], Awaitable[Any]]) -> None:
        self._stores = stores
        self._known = known
        self._send = send
        self._coming: dict[int, tuple[AnyRequest, bytearray]] = {}
        self._lanes: dict[str, asyncio.Queue[_Work]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._bytes = 0
        self._room = asyncio.Event()

    async def head(self, text: str | bytes) -> None:
        """Take a request; with a body, it is done when that is there.

        :raises BadMessage: when it is none.
        """
        try:
            request = decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadMessage(f"not a request: {str(error)[:200]}") from None
        most = _MOST_RECORDS if isinstance(request, Records) else LONGEST_BODY
        if not 0 <= request.size <= most or request.id in self._coming:
            raise BadMessage(f"a request with a body of {request.size} bytes; expected at most {most}")
        if request.size:
            if sum(begun.size for begun, _ in self._coming.values()) + request.size > LONGEST_BODY:
                raise BadMessage("too many bodies at once")
            self._coming[request.id] = request, bytearray()
        else:
            await self._do(request, b"")

    async def body(self, message: bytes) -> None:
        """Take a part of a body."""
        number, data = part(message)
        if number not in self._coming:
            raise BadMessage("a binary message that belongs to no request")
        request, body = self._coming[number]
        body += data
        if len(body) > request.size:
            raise BadMessage("a body longer than its request says")
        if len(body) == request.size:
            del self._coming[request.id]
            await self._do(request, bytes(body))

    async def stop(self) -> None:
        """The connection is gone; what is being done is done."""
        await cancel(*self._tasks)
        self._stores.one.submit(self._stores.streams.forget, self._known)

    async def _do(self, request: AnyRequest, body: bytes) -> None:
        """Have it done; returns when the next one may come."""
        lane = self._lane(request)
        self._bytes += len(body)
        self._room.clear()
        await lane.put((request, body))
        while self._bytes > _MOST_BYTES:
            self._room.clear()
            await self._room.wait()

    def _lane(self, request: AnyRequest) -> asyncio.Queue[_Work]:
        name, pool, do = self._way(request)
        if name not in self._lanes:
            self._lanes[name] = asyncio.Queue(_MOST_WAITING)
            self._tasks.append(asyncio.create_task(self._work(self._lanes[name], pool, do)))
        return self._lanes[name]

    def _way(self, request: AnyRequest) -> tuple[str, ThreadPoolExecutor, Callable[..., Any]]:
        stores = self._stores
        if isinstance(request, (Records, LastN, Lease, Archived)):
            return "stream", stores.one, stores.streams.do
        if isinstance(request, PutRows):
            return "rows", stores.some, stores.rows.do
        return "archive", stores.some, stores.archive.do

    async def _work(self, lane: asyncio.Queue[_Work], pool: ThreadPoolExecutor, do: Callable[..., Any]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            request, body = await lane.get()
            answer = await loop.run_in_executor(pool, _answered, do, self._known, request, body)
            self._bytes -= len(body)
            self._room.set()
            await self._send(answer)


def _answered(do: Callable[..., Any], known: Known, request: AnyRequest, body: bytes) -> bytes:
    """The answer to a request."""
    try:
        return encode(Answer(id=request.id, value=do(known, request, body)))
    except NotYours as error:
        return encode(Answer(id=request.id, error=str(error), forbidden=True))
    except (BadMessage, msgspec.MsgspecError, LivelogError, redis.RedisError, OSError) as error:
        return encode(Answer(id=request.id, error=f"{type(error).__name__}: {error}"))
    except SQLAlchemyError:
        return encode(Answer(id=request.id, error="the catalog of the relay takes nothing now"))
    except Exception as error:  # noqa: BLE001 - a fault of ours must not stop the lane
        complain("a request from elsewhere cannot be done", error)
        return encode(Answer(id=request.id, error="the relay fails"))
