"""Writes what waits for run directories, each run's by itself: one that cannot be written holds up no other."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

import msgspec

from celery_livelog.errors import complain, report
from celery_livelog.run_layouts import RunLayout, choose, why_none
from celery_livelog.runs import Run
from celery_livelog.shipper.backlog import Backlog
from celery_livelog.shipper.run_pieces import Piece, Place, write

#: Bytes of pieces that are worked on at once; those of a run that cannot be written now stay among them.
_BATCH_BYTES = 4 * 1024 * 1024
#: What is wrong with one directory only, and no better later: other runs' files don't wait for it.
_REFUSALS = frozenset({
    errno.EACCES, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR,
    errno.ENXIO, errno.EPERM,
})  # fmt: skip

_decode = msgspec.msgpack.Decoder(Piece).decode


class RunWriter:
    """The work of a sink of run directories.

    :param name: what is written, for messages.
    :param backlog: what waits.
    :param done: called with each piece that is written, or never will be.
    """

    def __init__(
        self, name: str, layouts: Sequence[RunLayout], zone: str, backlog: Backlog, done: Callable[[Piece], None]
    ) -> None:
        self._name = name
        self._layouts = layouts
        self._zone = ZoneInfo(zone)
        self._backlog = backlog
        self._done = done
        self._waiting: dict[Place, list[tuple[Piece, int]]] = {}
        self._taken = self._taken_bytes = 0
        self._said: set[str] = set()
        #: Bytes of the pieces with records that are done.
        self.told_bytes = 0

    def work(self, queue: deque[None]) -> None:
        """Write what waits, each run's by itself; what a file system does not take now waits for the next time."""
        self._take(queue)
        failure: OSError | None = None
        for place, pieces in list(self._waiting.items()):
            try:
                write(place, [piece for piece, _ in pieces], self._zone)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    failure = failure or error
                    continue
                complain(f"the {self._name} lack run {place.run_id}", error)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not hold up the other runs
                complain(f"the {self._name} lack run {place.run_id}", error)
            del self._waiting[place]
            for piece, size in pieces:
                self._drop(piece, size, queue)
        if failure is not None:
            raise failure

    def _take(self, queue: deque[None]) -> None:
        while self._taken < len(queue) and self._taken_bytes < _BATCH_BYTES:
            data = self._backlog.first()
            piece, size = _decode(data), len(data)
            self._backlog.drop()
            self._taken += 1
            self._taken_bytes += size
            layout = choose(self._layouts, piece.run)
            if layout is None:
                self._complain(piece.run)
                self._drop(piece, size, queue)
            else:
                place = Place(layout, layout.place(piece.run), piece.run.run_id)
                self._waiting.setdefault(place, []).append((piece, size))

    def _drop(self, piece: Piece, size: int, queue: deque[None]) -> None:
        self._taken -= 1
        self._taken_bytes -= size
        if piece.tells:
            self.told_bytes += size
        queue.popleft()
        self._done(piece)

    def _complain(self, run: Run) -> None:
        """Say once for each placeholder that runs without it have no directory."""
        layout = self._layouts[-1]
        (missing, *_) = layout.missing(run)
        if missing not in self._said:
            self._said.add(missing)
            report(f"no directory for such runs: {why_none(layout, run)}")
