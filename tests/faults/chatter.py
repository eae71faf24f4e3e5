"""What `chatter` of the tests' project prints, and the notes it takes of that, which outlive a SIGKILL."""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path

_SIZE = 32
_DONE, _PID, _STOP = slice(0, 8), slice(8, 12), 16


def line(number: int) -> str:
    """The line with this number, as ``chatter`` prints it."""
    return f"{number} {zlib.crc32(str(number).encode()):08x} {'x' * (number % 60)}"


class Notes:
    """The page that a chatter shares with its test."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_SIZE))
        self.path = path
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), _SIZE)

    @property
    def done(self) -> int:
        """How many lines it has printed: so many calls of `print` have returned."""
        return int.from_bytes(self._page[_DONE], "little")

    @property
    def pid(self) -> int:
        """The process it runs in; 0 before it runs."""
        return int.from_bytes(self._page[_PID], "little")

    def stop(self) -> None:
        """Tell it to come to its end."""
        self._page[_STOP] = 1
