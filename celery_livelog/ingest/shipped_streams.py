"""The live streams here, as a shipper elsewhere asks for them; see `stores.requests`. For one thread."""

from __future__ import annotations

import time
from typing import Any

from celery_livelog.ingest import writers
from celery_livelog.ingest.known import Known
from celery_livelog.ingest.messages import BadMessage
from celery_livelog.records import decode
from celery_livelog.settings import Settings
from celery_livelog.stores.requests import Archived, LastN, Lease, Records, StreamRequest, Taken
from celery_livelog.stores.stream_writer import Parcel, StreamWriter


class ShippedStreams:
    """Does what is asked as that writer may. Without a Redis there is no live view, and what is sent counts as taken.

    :raises NotYours: from `do`, when a writer may not.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._disk = "" if settings.archive_shared else settings.archive_url
        self._stream: StreamWriter | None = None
        if settings.redis_url is not None:
            self._stream = StreamWriter(settings.redis_url, settings.key_prefix, settings.maxlen, settings.expires)

    def do(self, known: Known, request: StreamRequest, body: bytes) -> Any:
        """Do what is asked; give the answer's value."""
        if self._stream is None:
            return Taken(records=body.count(b"\n") + bool(body)) if isinstance(request, Records) else 0
        if isinstance(request, Lease):
            return self._stream.renew_leases([writers.own_lease(known.writer, request.name)], self._disk)
        known.allow(request.task_id)
        if isinstance(request, Archived):
            return self._let_go(self._stream, request.task_id, known.size(request.task_id))
        attempt = writers.own_id(known.writer, request.task_id, request.attempt)
        if isinstance(request, LastN):
            return self._stream.last_n(request.task_id, attempt)
        return self._send(self._stream, known, self._parcel(known, attempt, request, body), len(body))

    def forget(self, known: Known) -> None:
        """That connection is gone."""
        for attempt in known.attempts:
            if self._stream is not None:
                self._stream.forget(attempt)

    def close(self) -> None:
        """Close the connections."""
        if self._stream is not None:
            self._stream.close()

    def _parcel(self, known: Known, attempt: str, request: Records, body: bytes) -> Parcel:
        told = None if request.known is None else writers.own_attempt(known.writer, request.known, "")
        if told is not None and (told.task_id, told.attempt) != (request.task_id, attempt):
            raise BadMessage("what is known is of another attempt than the records")
        records = [decode(line) for line in body.split(b"\n") if line]
        if any(record.n < 1 for record in records):
            raise BadMessage("a record has a number below 1")
        return Parcel(request.task_id, attempt, records, request.fresh, told)

    def _send(self, stream: StreamWriter, known: Known, parcel: Parcel, size: int) -> Taken:
        (sent,) = stream.send([parcel])
        known.sent(parcel.task_id, parcel.attempt, size)
        error = "" if sent.error is None else f"{type(sent.error).__name__}: {sent.error}"
        return Taken(records=sent.records, vanished=sent.vanished, error=error, refused=sent.refused)

    def _let_go(self, stream: StreamWriter, task_id: str, size: int) -> None:
        if self._settings.archive_shared:
            stream.expire_soon(task_id)
        else:
            stream.finish([(task_id, time.time(), size)], self._settings.keep_finished)
