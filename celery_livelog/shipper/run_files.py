"""Takes what the attempts of named runs give to the files of their runs: as well as it goes, and once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.errors import complain
from celery_livelog.records import End, Record
from celery_livelog.run_layouts import RunLayout
from celery_livelog.runs import Run
from celery_livelog.settings import Settings
from celery_livelog.shipper.backlog import Backlog
from celery_livelog.shipper.run_pieces import UNKNOWN, Piece
from celery_livelog.shipper.run_text import Teller
from celery_livelog.shipper.run_writer import RunWriter
from celery_livelog.shipper.sinks import Sink

#: Seconds in which the records of a run come together: one append costs about as much as formatting a hundred lines.
_SECONDS = 0.1
#: Records of an attempt that come together at most.
_GATHERED = 1000
#: Bytes of records that may wait in memory, packed.
_MEMORY_BYTES = 4 * 1024 * 1024
#: What part of the spool's budget may wait for directories that are away.
_BUDGET_PART = 8


@dataclass(slots=True)
class _Telling:
    """What an attempt has for one run: the records that wait to come together."""

    teller: Teller
    run: Run
    started: str
    records: list[Record] = field(default_factory=list)
    after: int = UNKNOWN


_encode = msgspec.msgpack.Encoder().encode


class RunFiles:
    """The sink of the run directories below one root, or of their mirror.

    :param name: for messages and for the files of what waits.
    :param directory: the spool directory.
    :param budget: bytes that may wait, if that is more than may wait in memory; what is more is left out, and the run's
        log says how much that is.
    :param written: called, in the sink's thread, with the id of an attempt that was `archived` when its part is there.
    :param secured: the same with the number that `secure` was called with.
    """

    def __init__(
        self,
        name: str,
        layouts: Sequence[RunLayout],
        zone: str,
        directory: Path,
        budget: int,
        written: Callable[[str], None],
        secured: Callable[[tuple[str, int]], None] = lambda secured: None,
    ) -> None:
        self._name = name
        self._budget = max(budget, _MEMORY_BYTES)
        self._written = written
        self._secured = secured
        self._tellings: dict[tuple[str, str], _Telling] = {}
        self._gathering: dict[tuple[str, str], _Telling] = {}
        self._homes: dict[str, _Telling] = {}
        self._backlog = Backlog(directory, name.replace(" ", "-"), _MEMORY_BYTES)
        self._put_bytes = 0
        self._writer = RunWriter(name, layouts, zone, self._backlog, self._done)
        #: What waits stands in the backlog and with the writer; the queue says how much it is.
        self._sink: Sink[None] = Sink(f"the {name}", self._writer.work, gather=_SECONDS, meanwhile=_meanwhile)

    def put(self, attempt: Attempt, run: Run, records: Sequence[Record]) -> None:
        """Take records of an attempt for a run; none when the attempt has just begun."""
        key = attempt.attempt, run.run_id
        telling = self._tellings.get(key)
        if telling is None:
            teller = Teller(attempt.attempt, attempt.task_id, attempt.name, attempt.worker, attempt.retries)
            telling = self._tellings[key] = _Telling(teller, run, attempt.started)
            self._homes.setdefault(attempt.attempt, telling)
        self._gathering[key] = telling
        telling.records += records
        if records and isinstance(records[-1], End):
            self.flush(attempt.attempt)
        elif len(telling.records) >= _GATHERED:
            self._flush(key)

    def tick(self) -> None:
        """Called each round of the loop: what has come together goes on."""
        for key in list(self._gathering):
            self._flush(key)

    def archived(self, attempt: str) -> None:
        """The log of an attempt is in the archive; called in another thread after its last `put`."""
        home = self._homes.get(attempt)
        if home is None:
            self._written(attempt)
        else:
            self._send(Piece(home.teller, home.run, home.started, last=True))

    def secure(self, attempt: str, number: int) -> None:
        """All that an attempt had given is in archive and catalog; called in another thread after `flush`."""
        home = self._homes.get(attempt)
        if home is None:
            self._secured((attempt, number))
        else:
            self._send(Piece(home.teller, home.run, home.started, secures=number))

    def flush(self, attempt: str) -> None:
        """What has come together of an attempt goes on now."""
        for key in [key for key in self._gathering if key[0] == attempt]:
            self._flush(key)

    def forget(self, attempt: str) -> None:
        """Nobody needs to know any more how far an attempt has come."""
        if self._homes.pop(attempt, None) is None:
            return
        for key in [key for key in self._tellings if key[0] == attempt]:
            telling = self._tellings.pop(key)
            self._send(Piece(telling.teller, telling.run, telling.started, over=True))

    @property
    def idle(self) -> bool:
        """Whether all is written, as far as it can be."""
        return not self._gathering and self._sink.idle

    def close(self, timeout: float) -> None:
        """See `Sink.close`."""
        self._sink.close(timeout)
        self._backlog.close()

    def _flush(self, key: tuple[str, str]) -> None:
        telling = self._gathering.pop(key)
        if self._put_bytes - self._writer.told_bytes <= self._budget:
            records = telling.records
            self._put_bytes += self._send(Piece(telling.teller, telling.run, telling.started, records, telling.after))
        else:
            complain(f"the {self._name} do not keep up: what they leave out is in the archive")
        if telling.records:
            telling.after = telling.records[-1].n
            telling.records = []

    def _send(self, piece: Piece) -> int:
        data = _encode(piece)
        self._backlog.put(data)
        self._sink.put(None)
        return len(data)

    def _done(self, piece: Piece) -> None:
        if piece.last:
            self._written(piece.teller.attempt)
        if piece.secures:
            self._secured((piece.teller.attempt, piece.secures))


def open_run_files(
    settings: Settings, directory: Path, written: Callable[[str], None], secured: Callable[[tuple[str, int]], None]
) -> list[RunFiles]:
    """The sinks that the settings ask for; see `RunFiles`."""
    roots = {"run directories": settings.run_dir, "shared run directories": settings.shared_run_dir}
    budget = settings.spool_max_bytes // _BUDGET_PART
    return [
        RunFiles(name, list(map(RunLayout.parse, given)), settings.timezone, directory, budget, written, secured)
        for name, given in roots.items()
        if given
    ]


def _meanwhile(error: BaseException) -> str:
    return "it is tried again; what cannot wait is left out there, and is in the archive"
