"""What attempts tell for one run, on its way from the shipper's loop to the run's files: none of it twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from celery_livelog.records import Gap, Record, RunStart
from celery_livelog.run_layouts import RunLayout
from celery_livelog.runs import Run
from celery_livelog.shipper.run_text import RunText, Teller, Told
from celery_livelog.stores import rundir

UNKNOWN = -1


class Place(NamedTuple):
    """Where the directory of a run is."""

    layout: RunLayout
    parts: tuple[str, ...]
    run_id: str


class Piece(msgspec.Struct, array_like=True):
    """Records of one attempt for one run.

    `after`: the number of the record before them that was for this run too, if that is known. The rest is of pieces
    without records: `last`: nothing more comes, and all that was before is to be said to be written. `secures`: the
    same, under this number, of an attempt that goes on. `over`: nobody will send any of it once more.
    """

    teller: Teller
    run: Run
    started: str
    records: list[Record] = []
    after: int = UNKNOWN
    last: bool = False
    secures: int = 0
    over: bool = False

    @property
    def tells(self) -> bool:
        """Whether it has something for the files, if only that the attempt begins."""
        return not (self.last or self.secures or self.over)


def write(place: Place, pieces: Sequence[Piece], zone: ZoneInfo) -> None:
    """Append what attempts tell for one run to its files: all of it or nothing.

    :raises OSError: when the file system does not take it.
    """
    layout, parts, run_id = place
    tells = any(piece.tells for piece in pieces)
    if not tells and rundir.find(layout.root, parts, run_id) is None:
        return  # somebody has deleted it
    run = pieces[0].run
    with rundir.locked(layout.root, parts, run) as directory:
        text = RunText(run, layout.log, zone)
        if tells and not directory.has(layout.log):
            first = next((record for piece in pieces for record in piece.records), None)
            text.head(pieces[0].teller, tells_itself=isinstance(first, RunStart) and first.run_id == run_id)
        states: dict[str, bytes | None] = {}
        for piece in pieces:
            attempt = piece.teller.attempt
            if piece.over:
                states[attempt] = None
            elif piece.tells:
                states[attempt] = _tell(text, piece, states.get(attempt) or directory.state(attempt))
        directory.append(text.files(), states)


def _tell(text: RunText, piece: Piece, state: bytes | None) -> bytes:
    """Let an attempt tell what it has not told yet; give how far it has come then."""
    told = msgspec.json.decode(state, type=Told) if state else Told()  # empty: lost with the power
    if state is None:
        text.begin(piece.teller, piece.started)
    new = [record for record in piece.records if record.n > told.n]
    if new and (missing := _before(piece, told) - told.n) > 0:
        text.gap(piece.teller, missing, new[0].timestamp)
        told.stages.clear()
    text.take(piece.teller, new, told)
    return msgspec.json.encode(told)


def _before(piece: Piece, told: Told) -> int:
    """The number of the record before these that should be in the files."""
    first = piece.records[0]
    if piece.after != UNKNOWN:
        return piece.after
    if isinstance(first, RunStart) and not told.n:
        return 0  # what was before is not of this run
    return (first.first if isinstance(first, Gap) else first.n) - 1
