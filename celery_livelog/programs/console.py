"""Shows a program's raw files where it would have printed itself: each stream in order, whole, at the reader's pace."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

_CHUNK = 256 * 1024
#: Seconds between two looks at the files, which cannot ring: at first, and when they are quiet.
_LOOK_SECONDS, _QUIET_SECONDS = 0.01, 0.05


class Console:
    """Shows raw files in a thread, since a console may take its time.

    :param raw: the files by the descriptors on which they are shown.
    :param shown: told how much of each was shown.
    """

    def __init__(self, raw: Mapping[int, int], shown: Callable[[int, int], None], *, quiet: bool = False) -> None:
        self._raw = raw
        self._shown = shown
        self._at = dict.fromkeys(raw, 0)
        self._gone = dict.fromkeys(raw, quiet)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="livelog-console", daemon=True)
        self._thread.start()

    def finish(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Show all that was written until now, and no more.

        :param given_up: whether nobody wants to wait for that any more.
        """
        self._ending.set()
        while self._thread.is_alive() and not given_up():
            self._thread.join(_QUIET_SECONDS)

    def _run(self) -> None:
        pause = _LOOK_SECONDS
        while not self._ending.wait(pause):
            pause = _LOOK_SECONDS if self._show() else min(2 * pause, _QUIET_SECONDS)
        self._show()

    def _show(self) -> bool:
        """Show what is new; give whether there was anything."""
        sizes = [(stream, os.fstat(fd).st_size) for stream, fd in self._raw.items()]
        return sum(self._show_one(stream, size) for stream, size in sizes) > 0

    def _show_one(self, stream: int, size: int) -> bool:
        start = self._at[stream]
        if size < start:  # a shell's ``> /dev/stderr`` has emptied it
            self._at[stream] = 0
        while self._at[stream] < size:
            data = self._read(stream, size)
            if data and not self._gone[stream]:
                self._gone[stream] = not _write(stream, data)
            self._at[stream] += len(data)
            self._shown(stream, self._at[stream])
        return start != size

    def _read(self, stream: int, size: int) -> bytes:
        """The next bytes. Those that the shipper had to give up, for want of room, are said to be missing."""
        fd, at = self._raw[stream], self._at[stream]
        if self._gone[stream]:
            self._at[stream] = size
            return b""
        data = os.pread(fd, min(_CHUNK, size - at), at)
        there = self._next_data(fd, at, size)
        if there > at:
            self._at[stream] = there
            _write(2, b"celery-livelog: %d bytes are not shown: this console is too slow for them\n" % (there - at))
            return b""
        return data

    def _next_data(self, fd: int, at: int, size: int) -> int:
        try:
            return min(size, os.lseek(fd, at, os.SEEK_DATA))
        except OSError:
            return size if not os.pread(fd, 1, at).strip(b"\0") else at


def _write(fd: int, data: bytes) -> bool:
    """Write all of it; give whether somebody is there to see it."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # whoever has made it so waits for nobody: we do
            threading.Event().wait(_LOOK_SECONDS)
        except OSError:
            return False
    return True


def write(fd: int, data: bytes) -> None:
    """Show bytes on a descriptor of ours; nothing where nobody sees them."""
    _write(fd, data)
