"""Numbers what an attempt wrote, without its secrets, and keeps up what is counted of it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.endings import Ending
from celery_livelog.frames import LOG_STREAM, STREAMS
from celery_livelog.records import End, Gap, Line, Partial, Record, StageEvent, Trace, utc
from celery_livelog.shipper import logged
from celery_livelog.shipper.redaction import Redaction
from celery_livelog.shipper.splitting import Lines, Place

#: The place of log records, each of which is whole.
_LOGGED: Place = (LOG_STREAM, -1)
#: Characters of an exception that the end of a log carries; the log itself has the traceback.
_REASON_CHARACTERS = 500


class Numbering:
    """The records of one attempt, numbered 1, 2, 3 … without holes.

    :param attempt: its `lines`, `bytes`, `skipped` and ending are kept up here.
    :param redaction: hides what is secret in it.
    :param n: the last number that was given.
    """

    def __init__(self, attempt: Attempt, redaction: Redaction, n: int = 0) -> None:
        self.n = n
        self._attempt = attempt
        self._redaction = redaction
        redaction.attempt(attempt)

    def lines(
        self,
        place: Place,
        lines: Lines,
        timestamp: str,
        stage: int | None,
        level: str | None = None,
        logger: str | None = None,
    ) -> list[Record]:
        """Lines of a stream, with the number of the stage in which they were written."""
        first = self.n + 1
        self.n += len(lines)
        stream = STREAMS[place[0]]
        self._attempt.lines += sum(not more for _, more in lines)
        return [
            Line(n=n, timestamp=timestamp, stream=stream, line=line, level=level, logger=logger, stage=stage, more=more)
            for n, (line, more) in enumerate(self._redaction.lines(place, lines), first)
        ]

    def logged(self, payload: bytes, timestamp: str, stage: int | None) -> list[Record]:
        """A log record, whose message may have several lines; its fields go with the first."""
        said = logged.read(payload)
        self._attempt.bytes += said.bytes
        records = self.lines(_LOGGED, said.lines, timestamp, stage, said.level, self._redaction.text(said.logger))
        if said.fields:
            records[0] = msgspec.structs.replace(records[0], fields=self._redaction.data(said.fields))
        return records

    def partial(self, place: Place, line: str, timestamp: str, *, redrawn: bool) -> Partial:
        """An unfinished line as it stands; the next record may be it."""
        shown = self._redaction.preview(place, line)
        return Partial(n=self.n + 1, timestamp=timestamp, stream=STREAMS[place[0]], line=shown, redrawn=redrawn)

    def event(self, event: dict[str, Any], timestamp: str) -> StageEvent:
        """An event.

        :raises msgspec.ValidationError: when it is none; then it has no number.
        """
        fields = {**self._redaction.event(event), "n": self.n + 1, "timestamp": timestamp}
        record: StageEvent = msgspec.convert(fields, StageEvent, strict=False)
        self.n += 1
        return record

    def unreadable(self, payload: bytes, timestamp: str) -> Trace:
        """An event that is none: values of users."""
        self.n += 1
        text = self._redaction.text(payload.decode("utf-8", "backslashreplace"))
        return Trace(n=self.n, timestamp=timestamp, event="unreadable", data=text)

    def gap(self, payload: bytes, timestamp: str) -> Gap:
        """Records that were printed but are not here."""
        said = msgspec.json.decode(payload)
        skipped, first = said["lines"], self.n + 1
        self.n += skipped
        self._attempt.skipped += skipped
        return Gap(n=self.n, timestamp=timestamp, skipped=skipped, first=first, last=self.n, reason=said["reason"])

    def end(self, ending: Ending, time: int) -> list[Record]:
        """How it ended; of a first try that went well in silence, no record says so."""
        attempt, silent = self._attempt, self.n == 0
        attempt.state, attempt.exit_code, attempt.ended = ending.state, ending.exit_code, utc(time)
        attempt.reason = self._redaction.reason(ending.reason, _REASON_CHARACTERS)
        if silent and attempt.state == "SUCCESS" and not (attempt.retries or attempt.redelivered):
            return []
        self.n += 1
        state, exit_code, reason = ending.state, ending.exit_code, attempt.reason
        return [End(n=self.n, timestamp=attempt.ended, state=state, exit_code=exit_code, reason=reason)]

    def hide(self, secret: bytes) -> None:
        """Hide a secret from now on, also in what is known of the attempt."""
        self._redaction.hide(secret)
        self._redaction.attempt(self._attempt)
