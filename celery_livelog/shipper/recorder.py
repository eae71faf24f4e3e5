"""Takes what is known of attempts to the catalog: the beginning, the end, and where the log is archived."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from sqlalchemy.exc import DataError

from celery_livelog.attempts import Attempt
from celery_livelog.errors import complain
from celery_livelog.shipper.backlog import Backlog
from celery_livelog.shipper.sinks import Sink
from celery_livelog.stores.catalog import Catalog

#: A row alone takes four times the work of one among many, and the end of a short task can join its beginning.
_BATCH, _SECONDS = 500, 0.1
#: Bytes of rows that may wait in memory while the database is away.
_MEMORY_BYTES = 4 * 1024 * 1024


class _Row(msgspec.Struct, array_like=True):
    attempt: Attempt
    last: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode


class Recorder:
    """The catalog sink. However long the database is away, it takes little memory: see `Backlog`.

    :param directory: the spool directory.
    :param written: called, in the sink's thread, with the id of an attempt whose last row is in the catalog.
    """

    def __init__(self, url: str, directory: Path, written: Callable[[str], None]) -> None:
        self._catalog = Catalog(url)
        self._written = written
        self._backlog = Backlog(directory, "catalog", _MEMORY_BYTES)
        self._rows: list[_Row] = []
        #: What waits stands in the backlog; the queue says how much it is.
        self._sink: Sink[None] = Sink("the catalog", self._work, gather=_SECONDS)

    def put(self, attempt: Attempt, *, last: bool = False) -> None:
        """Take what is known of an attempt now; `last` when nothing more will be."""
        self._backlog.put(_encode(_Row(attempt, last)))
        self._sink.put(None)

    @property
    def idle(self) -> bool:
        """Whether all is in the catalog, as far as it takes it."""
        return self._sink.idle

    def close(self, timeout: float) -> None:
        """See `Sink.close`."""
        self._sink.close(timeout)
        self._backlog.close()
        self._catalog.close()

    def _work(self, queue: deque[None]) -> None:
        while len(self._rows) < min(len(queue), _BATCH):
            self._rows.append(_decode(self._backlog.first()))
            self._backlog.drop()
        attempts = [row.attempt for row in self._rows]
        try:
            self._catalog.write(attempts)
        except DataError:
            self._write_singly(attempts)
        for row in self._rows:
            queue.popleft()
            if row.last:
                self._written(row.attempt.attempt)
        self._rows = []

    def _write_singly(self, attempts: Sequence[Attempt]) -> None:
        """One row that the database will never take must not keep the others out."""
        for attempt in attempts:
            try:
                self._catalog.write([attempt])
            except DataError as error:
                complain("the catalog refuses a row", error)
