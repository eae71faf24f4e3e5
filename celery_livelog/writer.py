"""Appends what one attempt writes to its process' journal. No lock, no network, no exception of ours.

`current` says which attempt the running code belongs to; it is a context variable, so asyncio tasks carry it by themselves
and threads through `celery_livelog.threads`.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from threading import get_ident

from celery_livelog import journal

current: ContextVar[AttemptWriter | None] = ContextVar("livelog_attempt", default=None)

#: Characters of an unfinished line that are held back for its rest; a flush or the task's end lets them go.
_HOLD = 8192
#: Characters that go into one frame: far below what a frame may hold, in any encoding.
_FRAME_CHARACTERS = 1024 * 1024


class AttemptWriter:
    """Appends what one attempt writes to the journal of its process.

    :param to: the process' journal.
    :param slot: the attempt's number in this journal.
    :param raw: gives the sizes of the raw files, which place each record among the raw bytes.
    """

    def __init__(self, to: journal.Journal, slot: int, raw: Callable[[], tuple[int, int]]) -> None:
        self._journal = to
        self._slot = slot
        self._raw = raw
        self._held: dict[tuple[int, int], str] = {}
        self._lost = 0
        self._taken: dict[int, weakref.ref[logging.LogRecord]] = {}
        #: How the attempt failed, as far as is known before its end.
        self.reason = ""
        self.ended = False
        #: Stages begun so far.
        self.stages = 0

    def write(self, stream: int, text: str) -> None:
        """Take text of a stream; whole lines go at once, the start of a line waits for its rest."""
        key = (stream, get_ident())
        if self._held:
            text = self._held.pop(key, "") + text
        end = text.rfind("\n") + 1
        if end != len(text):
            if len(text) - end > _HOLD:
                end = len(text)
            else:
                self._held[key] = text[end:]
                if not end:
                    return
                text = text[:end]
        for start in range(0, end, _FRAME_CHARACTERS):
            self._append(stream, key[1], _encoded(text[start : start + _FRAME_CHARACTERS]))

    def write_bytes(self, stream: int, data: bytes) -> None:
        """Take bytes of a stream, such as those for ``sys.stdout.buffer``."""
        self.flush(stream)
        for start in range(0, len(data), _FRAME_CHARACTERS):
            self._append(stream, get_ident(), data[start : start + _FRAME_CHARACTERS])

    def flush(self, stream: int) -> None:
        """Let the unfinished line of the calling thread go."""
        key = (stream, get_ident())
        if key in self._held:
            text = self._held.pop(key, "")
            if text:
                self._append(stream, key[1], _encoded(text))

    def log(self, level: str, logger: str, message: str) -> None:
        """Take a logged message."""
        payload = _encoded(f"{level}\0{logger}\0{message[: 8 * _FRAME_CHARACTERS // 4]}")
        self._put(journal.LOG, journal.LOG_STREAM, 0, payload, message.count("\n") + 1)

    def event(self, payload: bytes) -> None:
        """Take a stage event or trace: JSON without n and timestamp."""
        self._put(journal.EVENT, journal.INTERNAL, 0, payload, 1)

    def takes(self, record: logging.LogRecord) -> bool:
        """Whether this log record is new here; a record that passes several handlers is taken once."""
        thread = get_ident()
        taken = self._taken.get(thread)
        if taken is not None and taken() is record:
            return False
        self._taken[thread] = weakref.ref(record)
        return True

    def forget_held(self) -> None:
        """In a forked child: the unfinished lines are the parent's to write."""
        self._held.clear()

    def end(self, payload: bytes) -> None:
        """Write what is held and how the attempt ended; what comes later is not of this attempt."""
        for (stream, thread), text in list(self._held.items()):
            self._append(stream, thread, _encoded(text))
        self._held.clear()
        self._admit_loss()
        self.ended = True
        self._journal.append(journal.END, 0, self._slot, 0, self._raw(), payload, force=True)

    def _append(self, stream: int, thread: int, payload: bytes) -> None:
        self._put(journal.TEXT, stream, thread & 0xFFFFFFFF, payload, payload.count(b"\n"))

    def _put(self, kind: int, stream: int, channel: int, payload: bytes, lines: int) -> None:
        if self._lost and not self._journal.full:
            self._admit_loss()
        if not self._journal.append(kind, stream, self._slot, channel, self._raw(), payload):
            self._lost += lines

    def _admit_loss(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            reason = b"overload" if self._journal.full else b"lost"
            payload = b'{"lines":%d,"reason":"%b"}' % (lost, reason)
            if not self._journal.append(journal.GAP, journal.INTERNAL, self._slot, 0, self._raw(), payload, force=True):
                self._lost += lost


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass
    try:
        return text.encode("utf-8", "surrogateescape")  # bytes that Python itself could not decode
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")
