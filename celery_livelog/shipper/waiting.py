"""What waits for Redis, attempt by attempt, and its bound. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from celery_livelog.attempts import Attempt
from celery_livelog.shipper.outbox import Outbox

#: Bytes that may wait in all.
_BYTES = 48 * 1024 * 1024


@dataclass
class Waiting:
    """An attempt on its way to its stream."""

    attempt: Attempt
    outbox: Outbox
    resumed: bool
    fresh: bool = True
    #: Whether its last record was put here; that it has ended is known before.
    ended: bool = False
    #: The number up to which a shipper before this one has sent the records.
    sent: int = 0
    archived: bool = False
    bytes: int = 0
    #: What the index was last told of: 0 nothing, 1 the beginning, 2 the end.
    indexed: int = 0
    #: When to try again after its key was no stream; 0 when it was not.
    retry_at: float = 0.0

    @property
    def unseen(self) -> bool:
        """Whether nothing of it is in Redis."""
        return not (self.bytes or self.sent or self.resumed)


def make_room(logs: dict[str, Waiting], ended: int) -> list[Waiting]:
    """Bound what waits for a Redis that is away or slow; the oldest attempts make room.

    :param logs: by attempt, in order of start.
    :param ended: how many that have ended, and of which nobody has seen anything, may wait.
    :returns: those that wait no more.
    """
    total = sum(log.outbox.weight for log in logs.values())
    for log in logs.values() if total > _BYTES else ():
        before = log.outbox.weight
        log.outbox.shrink()
        total += log.outbox.weight - before
        if total < _BYTES // 2:
            break
    unseen = [name for name, log in logs.items() if log.ended and log.unseen]
    return [logs.pop(name) for name in unseen[:-ended]]
