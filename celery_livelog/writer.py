"""Appends what one attempt writes to its process' journal. No lock, no network, no exception of ours.

`current` says which attempt the running code belongs to, and `innermost` in which stage of it that code is. They are
context variables, so asyncio tasks carry them by themselves and threads through `celery_livelog.threads`.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from threading import get_ident

from celery_livelog.frames import END, EVENT, FIELDS_FOLLOW, GAP, INTERNAL, LOG, LOG_STREAM, MASK, TEXT
from celery_livelog.journal import Journal

current: ContextVar[AttemptWriter | None] = ContextVar("livelog_attempt", default=None)
innermost: ContextVar[Entered | None] = ContextVar("livelog_stage", default=None)

#: Characters of an unfinished line that are held back for its rest; a flush or the task's end lets them go.
_HOLD = 8192
#: Characters that go into one frame: far below what a frame may hold, in any encoding.
_FRAME_CHARACTERS = 1024 * 1024
#: Characters of a logged message that go into one frame; a longer one continues in the next, on a line of its own.
_LOG_CHARACTERS = 2 * _FRAME_CHARACTERS
#: Log records that are remembered before those that are gone are forgotten.
_TAKEN = 64


class Entered:
    """A stage of an attempt that some code has entered.

    :param outer: the stage that the code was in before.
    """

    __slots__ = ("left", "number", "outer", "writer")

    def __init__(self, writer: AttemptWriter, number: int, outer: Entered | None) -> None:
        self.writer = writer
        self.number = number
        self.outer = outer
        self.left = False


class AttemptWriter:
    """Appends what one attempt writes to the journal of its process.

    :param to: the process' journal.
    :param slot: the attempt's number in this journal.
    :param raw: gives the sizes of the raw files, which place each record among the raw bytes.
    """

    def __init__(self, to: Journal, slot: int, raw: Callable[[], tuple[int, int]]) -> None:
        self._journal = to
        self._slot = slot
        self._raw = raw
        self._held: dict[tuple[int, int], str] = {}
        #: Lines that were printed and are not in the journal, until a gap says so there.
        self.lost = 0
        self._lost_why = b"lost"
        #: Secrets that are not in the journal yet, because the disk is full: until then, no text goes there either.
        self._unmasked: dict[bytes, None] = {}
        #: The log records that were taken, by their ids.
        self._taken: dict[int, weakref.ref[logging.LogRecord]] = {}
        #: How the attempt failed, as far as is known before its end.
        self.reason = ""
        self.ended = False
        #: Whether what is written to descriptors 1 and 2 is captured too.
        self.captures_descriptors = False
        #: Gives the numbers of stages; not by adding 1, which two threads could do at once.
        self.stages = count(1)

    def write(self, stream: int, text: str) -> None:
        """Take text of a stream; whole lines go at once, the start of a line waits for its rest."""
        thread = get_ident()
        place = stream, thread
        held = self._held.pop(place, None) if self._held else None
        if held is not None:
            text = held + text
        if text[-1:] != "\n":
            end = text.rfind("\n") + 1
            if len(text) - end < _HOLD:
                rest = text[end:]
                # A signal handler may have printed since. No call in this line, so that none comes in the middle of it.
                self._held[place] = self._held[place] + rest if place in self._held else rest
                if not end:
                    return
                text = text[:end]
        if len(text) <= _FRAME_CHARACTERS:
            self._put(TEXT, stream, thread & 0xFFFFFFFF, _encoded(text))
        else:
            for start in range(0, len(text), _FRAME_CHARACTERS):
                part = text[start : start + _FRAME_CHARACTERS]
                self._put(TEXT, stream, thread & 0xFFFFFFFF, _encoded(part))

    def write_bytes(self, stream: int, data: bytes | memoryview) -> None:
        """Take bytes of a stream, such as those for ``sys.stdout.buffer``."""
        self.flush(stream)
        for start in range(0, len(data), _FRAME_CHARACTERS):
            part = bytes(data[start : start + _FRAME_CHARACTERS])
            self._put(TEXT, stream, get_ident() & 0xFFFFFFFF, part)

    def flush(self, stream: int) -> None:
        """Let the unfinished line of the calling thread go."""
        thread = get_ident()
        text = self._held.pop((stream, thread), "")
        if text:
            self._put(TEXT, stream, thread & 0xFFFFFFFF, _encoded(text))

    def log(self, level: str, logger: str, message: str, fields: bytes = b"") -> None:
        """Take a logged message.

        :param fields: its key-values as a JSON object, if it has some.
        """
        head = _encoded(f"{level}\0{logger}")
        if fields:
            head = head.replace(FIELDS_FOLLOW, b"")
        for start in range(0, len(message) or 1, _LOG_CHARACTERS):
            part = message[start : start + _LOG_CHARACTERS]
            with_fields = FIELDS_FOLLOW + fields if fields and not start else b""
            self._put(LOG, LOG_STREAM, 0, b"%b%b\0%b" % (head, with_fields, _encoded(part)), one_more=part[-1:] != "\n")

    def event(self, payload: bytes) -> None:
        """Take a stage event or trace: JSON without n and timestamp."""
        self._put(EVENT, INTERNAL, 0, payload, one_more=True)

    def flush_all(self) -> None:
        """Let all unfinished lines of the calling thread go."""
        thread = get_ident()
        for stream, of in list(self._held):
            if of == thread:
                self.flush(stream)

    def mask(self, secret: bytes) -> None:
        """Hide a secret in all that is written from now on."""
        self._unmasked[secret] = None
        self._masks()

    def takes(self, record: logging.LogRecord) -> bool:
        """Whether this log record is new here; a record that passes several handlers is taken once."""
        taken = self._taken.get(id(record))
        if taken is not None and taken() is record:
            return False
        if len(self._taken) >= _TAKEN:
            for key, known in list(self._taken.items()):
                if known() is None:
                    self._taken.pop(key, None)
        self._taken[id(record)] = weakref.ref(record)
        return True

    def forget_held(self) -> None:
        """In a forked child: the unfinished lines are the parent's to write."""
        self._held.clear()

    def end(self, payload: bytes) -> None:
        """Write what is held and how the attempt ended; what comes later is not of this attempt."""
        for (stream, thread), text in list(self._held.items()):
            self._put(TEXT, stream, thread & 0xFFFFFFFF, _encoded(text), one_more=True)
        self._held.clear()
        self._admit_loss(must=True)
        self.ended = True
        self._journal.append(END, 0, self._slot, 0, self._raw(), payload, must=True)

    def _put(self, kind: int, stream: int, channel: int, payload: bytes, *, one_more: bool = False) -> None:
        if self.lost and self._journal.has_room():
            self._admit_loss()
        sealed = self._unmasked and not self._masks()
        entered = innermost.get()
        stage = entered.number if entered is not None and entered.writer is self else 0
        if sealed or not self._journal.append(kind, stream, self._slot, channel, self._raw(), payload, stage=stage):
            lines = payload.count(b"\n") + one_more
            self.lost += lines  # no call in this line: another thread could count in the middle of it
            self._lost_why = b"overload" if self._journal.full else b"lost"

    def _masks(self) -> bool:
        """Write what is masked; give whether all of it is in the journal."""
        for secret in list(self._unmasked):  # another thread may do the same: then it is there twice
            if not self._journal.append(MASK, 0, self._slot, 0, self._raw(), secret, force=True):
                return False
            self._unmasked.pop(secret, None)
        return True

    def _admit_loss(self, *, must: bool = False) -> None:
        lost, self.lost = self.lost, 0
        if lost:
            payload = b'{"lines":%d,"reason":"%b"}' % (lost, self._lost_why)
            if not self._journal.append(GAP, INTERNAL, self._slot, 0, self._raw(), payload, force=True, must=must):
                self.lost += lost  # no call in this line, see `_put`


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass
    try:
        return text.encode("utf-8", "surrogateescape")  # bytes that Python itself could not decode
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")
