"""The live streams of a relay's, as the stream sink writes them: many records in one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from celery_livelog.errors import RelayError, RelayRefusal
from celery_livelog.records import Gap, Record, encode
from celery_livelog.stores.link import Link
from celery_livelog.stores.requests import Archived, LastN, Lease, Records, Taken
from celery_livelog.stores.stream_writer import Parcel, Sent, pieces

#: Seconds that an answer may take.
_TIMEOUT = 4.0
#: Bytes of records that go in one message, which the last one may exceed; and of one record.
_BODY_BYTES, _RECORD_BYTES = 256 * 1024, 4 * 1024 * 1024


class RemoteStream:
    """Does what `StreamWriter` does, where a relay is between. What a relay decides is left to it."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, parcels: Sequence[Parcel]) -> list[Sent]:
        """Send all parcels, long ones in several messages, of which none goes before the one before it is taken."""
        ways = [_Way(parcel) for parcel in parcels]
        while going := [way for way in ways if way.goes_on]:
            asked = [(way, self._link.start(*way.next())) for way in going]
            for way, pending in asked:
                try:
                    way.arrived(msgspec.convert(pending.wait(_TIMEOUT), Taken))
                except RelayError as error:
                    way.error = error
        return [way.sent() for way in ways]

    def last_n(self, task_id: str, attempt: str) -> int:
        """The last number of an attempt that the stream holds; 0 when none, or none that this worker may know."""
        try:
            return int(self._link.ask(LastN(task_id=task_id, attempt=attempt), timeout=_TIMEOUT))
        except RelayRefusal:
            return 0

    def renew_leases(self, names: Iterable[str], disk: str = "") -> None:
        """Say that the shippers of these names live; where the archive is, the relay knows."""
        for name in names:
            self._link.ask(Lease(name=name), timeout=_TIMEOUT)

    def expire_soon(self, task_id: str) -> None:
        """The log is in archive and stream; what becomes of the stream then, a relay knows itself."""
        try:
            self._link.ask(Archived(task_id=task_id), timeout=_TIMEOUT)
        except RelayRefusal:
            pass  # then nothing of it was taken either

    def finish(self, finished: Iterable[tuple[str, float, int]], keep: int) -> None:
        """Nothing: how much stays in its Redis, a relay knows itself."""

    def forget(self, attempt: str) -> None:
        """Nothing is remembered here."""

    def close(self) -> None:
        """The link is others' too."""


class _Way:
    """A parcel on its way: its records, and those as the pieces in which they go."""

    def __init__(self, parcel: Parcel) -> None:
        self._parcel = parcel
        self._waiting: list[tuple[bytes, bool]] = [piece for record in parcel.records for piece in _packed(record)]
        self._gone = self._whole = self._asked = 0
        self._vanished = self._told = False
        self.error: Exception | None = None

    @property
    def goes_on(self) -> bool:
        """Whether there is more to be sent."""
        more = self._gone < len(self._waiting) or (self._parcel.known is not None and not self._told)
        return more and self.error is None and not self._vanished

    def next(self) -> tuple[Records, bytes]:
        """The next request, and its body."""
        end, size = self._gone, 0
        while end < len(self._waiting) and size < _BODY_BYTES:
            size += len(self._waiting[end][0]) + 1
            end += 1
        self._asked = end - self._gone
        body = b"\n".join(data for data, _ in self._waiting[self._gone : end])
        parcel = self._parcel
        fresh, known = parcel.fresh and not self._gone, None if self._told else parcel.known
        return Records(task_id=parcel.task_id, attempt=parcel.attempt, fresh=fresh, known=known), body

    def arrived(self, taken: Taken) -> None:
        """What became of it."""
        self._told = True
        pieces_taken = self._waiting[self._gone : self._gone + taken.records]
        self._whole += sum(last for _, last in pieces_taken)
        self._gone += taken.records
        self._vanished = taken.vanished
        if taken.error:
            self.error = (RelayRefusal if taken.refused else RelayError)(taken.error)
        elif taken.records < self._asked and not taken.vanished:
            self.error = RelayError("the relay has not taken all records")

    def sent(self) -> Sent:
        return Sent(self._whole, self._vanished, self.error)


def _packed(record: Record) -> list[tuple[bytes, bool]]:
    """A record as the pieces in which it goes, the last of which is marked. What no message holds is counted."""
    packed = [encode(piece) for piece in pieces(record)]
    if max(map(len, packed)) > _RECORD_BYTES:
        n = record.n
        gap = Gap(n=n, timestamp=record.timestamp, skipped=1, first=n, last=n, reason="overload")
        packed = [encode(gap)]
    return [(data, at == len(packed)) for at, data in enumerate(packed, 1)]
