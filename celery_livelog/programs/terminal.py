"""A pseudo-terminal for a program that wants one: colours, width, input. What it prints is journaled, then shown."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import struct
import termios
import threading
import tty
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_CHUNK = 65536
#: Milliseconds of quiet after which what an ended program has left behind is not waited for; and looks at most.
_QUIET_MS, _LOOKS = 50, 20


class Terminal:
    """The terminal of one program.

    :param take: called with what the program prints.
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._ours, theirs = os.openpty()
        self.path = os.ttyname(theirs)
        self.resize()
        self._theirs = theirs
        self._before: list[Any] | None = None
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._pump, name="livelog-terminal", daemon=True)]

    @property
    def takes_input(self) -> bool:
        """Whether our own input is a terminal, and ours to read."""
        try:
            return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
        except OSError:
            return False

    def start(self) -> None:
        """Pass on what the program prints and, if we have a terminal, what is typed. The program has its end by now."""
        os.close(self._theirs)
        if self.takes_input:
            self._before = termios.tcgetattr(0)
            tty.setraw(0)
            self._threads.append(threading.Thread(target=self._type, name="livelog-input", daemon=True))
        for thread in self._threads:
            thread.start()

    def resize(self) -> None:
        """Give it the size of our own."""
        size = next(filter(None, map(_size, (1, 0, 2))), None)
        if size is None:
            columns, lines = shutil.get_terminal_size()
            size = struct.pack("HHHH", lines, columns, 0, 0)
        with suppress(OSError):
            fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    def finish(self) -> None:
        """The program is over: take the rest, and give our own terminal back as it was."""
        self._ended.set()
        if self._threads[0].ident is not None:
            self._threads[0].join()
        if self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def _pump(self) -> None:
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        looks = 0
        while looks < _LOOKS:
            over = self._ended.is_set()
            looks += over
            if poll.poll(_QUIET_MS):
                try:
                    data = os.read(self._ours, _CHUNK)
                except OSError:
                    return  # nobody has the other end any more
                self._take(data)
            elif over:
                return

    def _type(self) -> None:
        with suppress(OSError):
            while data := os.read(0, _CHUNK):
                while data:
                    data = data[os.write(self._ours, data) :]


def _size(fd: int) -> bytes | None:
    try:
        size = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return None
    return size if any(size[:4]) else None
