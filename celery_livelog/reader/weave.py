"""Several logs in one, in order of time, while they go on. Pure: every time is passed in.

Rules:
- the records of one attempt keep their order, whatever their times say;
- a record waits until every log that is still open has something later, or has been silent for as long as it may be:
  for a moment where it is live, longer where all of it is known to be there already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from celery_livelog.reader.merge import Batch
from celery_livelog.records import Record


@dataclass(eq=False)
class Lane:
    """One log among others.

    :param patience: seconds that others wait for it while it is silent.
    """

    name: str
    patience: float
    since: float
    open: bool = True
    pending: deque[tuple[str, Batch, Record]] = field(default_factory=deque)
    _time: str = ""

    def put(self, batch: Batch, now: float) -> None:
        """Add what comes next of it."""
        for record in batch.records:
            self._time = max(self._time, record.timestamp)  # what C code prints may be told late
            self.pending.append((self._time, batch, record))
        self.since = now


class Weave:
    """Puts lanes together."""

    def __init__(self) -> None:
        self.lanes: dict[str, Lane] = {}
        self._heads: list[tuple[str, int, Lane]] = []
        self._count = 0

    def open(self, name: str, patience: float, now: float) -> Lane:
        """Begin a lane."""
        lane = self.lanes[name] = Lane(name, patience, now)
        return lane

    def put(self, lane: Lane, batch: Batch, now: float) -> None:
        """Add what comes next of a lane that has nothing pending."""
        lane.put(batch, now)
        self._line_up(lane)

    def end(self, lane: Lane) -> None:
        """Nothing more comes of a lane."""
        lane.open = False
        if not lane.pending:
            self.lanes.pop(lane.name, None)

    @property
    def first(self) -> str | None:
        """The time of the first record that waits."""
        return self._heads[0][0] if self._heads else None

    def take(self, now: float) -> Iterator[tuple[str, Batch]]:
        """The records whose turn it is, each with the name of its lane; those that belong together in one batch."""
        taken: tuple[Lane, Batch] | None = None
        while (due := self.due) is not None and due <= now:
            lane = heappop(self._heads)[2]
            _, batch, record = lane.pending.popleft()
            if not lane.pending:
                self._emptied(lane, now)
            self._line_up(lane)
            if taken is not None and taken[0] is lane and taken[1].attempt == batch.attempt:
                taken[1].records.append(record)
                continue
            if taken is not None:
                yield taken[0].name, taken[1]
            taken = lane, Batch(batch.attempt, batch.number, [record])
        if taken is not None:
            yield taken[0].name, taken[1]

    @property
    def due(self) -> float | None:
        """When the first record that waits need not wait any longer; None where none does."""
        if not self._heads:
            return None
        arrived = self._heads[0][2].since
        silent = [lane for lane in self.lanes.values() if not lane.pending]
        return max((max(lane.since, arrived) + lane.patience for lane in silent), default=0.0)

    def _line_up(self, lane: Lane) -> None:
        if lane.pending:
            self._count += 1
            heappush(self._heads, (lane.pending[0][0], self._count, lane))

    def _emptied(self, lane: Lane, now: float) -> None:
        lane.since = now
        if not lane.open:
            self.lanes.pop(lane.name, None)
