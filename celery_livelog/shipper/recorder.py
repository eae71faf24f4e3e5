"""Takes what is known of attempts, runs and stages to the catalog: beginnings, ends, where a log is archived."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from sqlalchemy.exc import DataError

from celery_livelog.attempts import Attempt
from celery_livelog.errors import complain
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.shipper.backlog import Backlog
from celery_livelog.shipper.contracts import RowStore
from celery_livelog.shipper.projection import Known
from celery_livelog.shipper.sinks import Sink

#: A row alone takes four times the work of one among many, and the end of a short task can join its beginning.
_BATCH, _SECONDS = 500, 0.1
#: Bytes of rows that may wait in memory while the database is away.
_MEMORY_BYTES = 4 * 1024 * 1024
#: Runs of which is remembered what was put.
_RUNS = 1000


class _Row(msgspec.Struct, array_like=True, omit_defaults=True):
    """One of the three, or the place of a part of an attempt's log: when it comes, all before it is written."""

    attempt: Attempt | None = None
    last: bool = False
    run: RunEntry | None = None
    stage: Stage | None = None
    secures: tuple[str, int] | None = None


_encode = (
    msgspec.json.Encoder().encode
)  # MessagePack knows no whole numbers of more than 64 bits; results may have them
_decode = msgspec.json.Decoder(_Row).decode


class Recorder:
    """The catalog sink. However long the database is away, it takes little memory: see `Backlog`.

    :param directory: the spool directory.
    :param written: called, in the sink's thread, with the id of an attempt whose last row is in the catalog.
    :param secured: called there when all is in the catalog that was put before `secure` was called with these.
    """

    def __init__(
        self,
        catalog: RowStore,
        directory: Path,
        written: Callable[[str], None],
        secured: Callable[[tuple[str, int]], None] = lambda secured: None,
    ) -> None:
        self._catalog = catalog
        self._written = written
        self._secured = secured
        self._runs: dict[tuple[str, str, str], RunEntry] = {}
        self._backlog = Backlog(directory, "catalog", _MEMORY_BYTES)
        self._rows: list[_Row] = []
        #: What waits stands in the backlog; the queue says how much it is.
        self._sink: Sink[None] = Sink("the catalog", self._work, gather=_SECONDS)

    def put(self, known: Known, *, last: bool = False) -> None:
        """Take what is known of an attempt, a run or a stage now; `last` when nothing more will be of an attempt."""
        if isinstance(known, Attempt):
            self._put(_Row(known, last))
        elif isinstance(known, Stage):
            self._put(_Row(stage=known))
        elif self._is_news(known):
            self._put(_Row(run=known))

    def secure(self, attempt: str, number: int) -> None:
        """Call `secured` when all is in the catalog that was put before."""
        self._put(_Row(secures=(attempt, number)))

    @property
    def idle(self) -> bool:
        """Whether all is in the catalog, as far as it takes it."""
        return self._sink.idle

    def close(self, timeout: float) -> None:
        """See `Sink.close`."""
        self._sink.close(timeout)
        self._backlog.close()
        self._catalog.close()

    def _put(self, row: _Row) -> None:
        self._backlog.put(_encode(row))
        self._sink.put(None)

    def _is_news(self, run: RunEntry) -> bool:
        """Whether it says more than was put before: each of its tasks tells of a run."""
        key = run.run_id, run.account, run.site
        told = self._runs.get(key)
        if told is not None and told.ended >= run.ended and told.named >= run.named and told.started <= run.started:
            return False
        if len(self._runs) >= _RUNS:
            self._runs.clear()
        self._runs[key] = run
        return True

    def _work(self, queue: deque[None]) -> None:
        while len(self._rows) < min(len(queue), _BATCH):
            self._rows.append(_decode(self._backlog.first()))
            self._backlog.drop()
        try:
            self._write(self._rows)
        except DataError:
            self._write_singly(self._rows)
        for row in self._rows:
            queue.popleft()
            if row.last and row.attempt is not None:
                self._written(row.attempt.attempt)
            if row.secures is not None:
                self._secured(row.secures)
        self._rows = []

    def _write(self, rows: Sequence[_Row]) -> None:
        self._catalog.write(
            [row.attempt for row in rows if row.attempt is not None],
            [row.run for row in rows if row.run is not None],
            [row.stage for row in rows if row.stage is not None],
        )

    def _write_singly(self, rows: Sequence[_Row]) -> None:
        """One row that the database will never take must not keep the others out."""
        for row in rows:
            try:
                self._write([row])
            except DataError as error:
                complain("the catalog refuses a row", error)
