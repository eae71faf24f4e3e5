"""Print the records of one task's log, in order: its lines to stdout, what is said about them to stderr."""

from __future__ import annotations

from collections.abc import Iterable

from celery_livelog.cli.output import Output
from celery_livelog.cli.rendering import Rendering
from celery_livelog.cli.times import local_time
from celery_livelog.records import End, Gap, Record
from celery_livelog.selection import stream_of


class Printer:
    """Prints rendered records, and between them, on stderr, attempts, stage events and how it ended.

    :param notes: whether there is to be anything but what is rendered.
    :param internal: render stage events and the like, too, which else are notes.
    :param timestamps: put its time before a note, too.
    """

    def __init__(
        self,
        output: Output,
        rendering: Rendering,
        *,
        notes: bool = True,
        internal: bool = False,
        timestamps: bool = False,
    ) -> None:
        self._output = output
        self._rendering = rendering
        self._notes = notes
        self._internal = internal
        self._timestamps = timestamps
        self._number = 0
        #: Whether more than one attempt is known of, so that the first is announced as well.
        self.several = False

    def print(self, number: int, records: Iterable[Record]) -> None:
        """Print records of attempt `number`."""
        if number != self._number:
            if self._notes and (self.several or self._number):
                self.note(f"--- attempt {number} ---")
            self._number = number
        texts: list[str] = []
        for record in records:
            if self._is_note(record):
                self._output.write("".join(texts))
                texts.clear()
                self._note_record(record)
            else:
                texts.append(self._rendering.feed(number, record))
        self._output.write("".join(texts))

    def note(self, text: str, failure: bool = False) -> None:
        """Say something about the log on stderr."""
        self.close()
        self._output.note(text, failure)

    def outcome(self, state: str, reason: str) -> None:
        """Say how an attempt ended, unless it went well."""
        if self._notes and state != "SUCCESS":
            self.note(f"{state}: {reason}" if reason else state, failure=True)

    def close(self) -> None:
        """Leave the terminal at the start of a row."""
        self._output.write(self._rendering.interrupt())

    def _is_note(self, record: Record) -> bool:
        if not self._notes or isinstance(record, Gap):
            return False
        return isinstance(record, End) or (stream_of(record) == "internal" and not self._internal)

    def _note_record(self, record: Record) -> None:
        if isinstance(record, End):
            self.outcome(record.state, record.reason)
        else:
            self.note(f"{local_time(record.timestamp)} {record.text}" if self._timestamps else record.text)
