"""The catalog here, as a shipper elsewhere writes it; see `stores.requests`. For any thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy.exc import DataError

from celery_livelog.attempts import Attempt
from celery_livelog.errors import complain
from celery_livelog.ingest import writers
from celery_livelog.ingest.known import Known
from celery_livelog.ingest.writers import NotYours
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.stores.archive import Archive
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.requests import PutRows, Rows

T = TypeVar("T")

_read = msgspec.json.Decoder(Rows).decode


class ShippedRows:
    """Writes those rows that are the writer's.

    :param archive: tells the places of logs.
    """

    def __init__(self, catalog: Catalog, archive: Archive) -> None:
        self._catalog = catalog
        self._archive = archive

    def do(self, known: Known, request: PutRows, body: bytes) -> str:
        """Write what is in the body; say how many rows are left out, and why."""
        rows, refused = _read(body), list[str]()
        attempts = _own(rows.attempts, lambda row: self._attempt(known, row), refused)
        runs = _own(rows.runs, lambda row: writers.own_run(known.writer, row), refused)
        stages = _own(rows.stages, lambda row: _stage(known, row), refused)
        try:
            self._catalog.write(attempts, runs, stages)
        except DataError:
            self._write_singly(attempts, runs, stages)
        return f"{len(refused)} rows: {refused[0]}" if refused else ""

    def _attempt(self, known: Known, row: Attempt) -> Attempt:
        known.allow(row.task_id, row.account)
        own = writers.own_id(known.writer, row.task_id, row.attempt)
        return writers.own_attempt(known.writer, row, self._archive.place(row.task_id, own))

    def _write_singly(self, attempts: Sequence[Attempt], runs: Sequence[RunEntry], stages: Sequence[Stage]) -> None:
        """One row that the database will never take must not keep the others out."""
        singly: list[tuple[list[Attempt], list[RunEntry], list[Stage]]] = [([row], [], []) for row in attempts]
        singly += [([], [row], []) for row in runs]
        singly += [([], [], [row]) for row in stages]
        for one in singly:
            try:
                self._catalog.write(*one)
            except DataError as error:
                complain("the catalog refuses a row from elsewhere", error)


def _stage(known: Known, row: Stage) -> Stage:
    known.allow(row.task_id, row.account)
    return writers.own_stage(known.writer, row)


def _own(rows: Sequence[T], own: Callable[[T], T], refused: list[str]) -> list[T]:
    """The rows that are the writer's, as the catalog takes them; why the others are not."""
    found = []
    for row in rows:
        try:
            found.append(own(row))
        except NotYours as error:
            refused.append(str(error))
    return found
