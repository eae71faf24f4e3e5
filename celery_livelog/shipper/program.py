"""A program under ``exec``: it may go on when the process is gone that waits for its end and shows what it prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from celery_livelog.shipper.raw import RawFiles, Shown


class Program:
    """What becomes of the program of a process, if that has one.

    :param files: its raw files.
    :param alive: whether the process lives that has started it.
    :param path: where that says how much of the files it has shown.
    """

    def __init__(self, files: RawFiles, alive: Callable[[], bool], path: Path) -> None:
        self._files = files
        self._alive = alive
        self._path = path
        self._begun = self._ended = False

    @property
    def goes_on(self) -> bool:
        """Whether it may still print, as far as its process has not told of its end."""
        return self._begun and not self._ended and self._files.in_use

    @property
    def remains(self) -> bool:
        """Whether the process is gone, but not all that it has started: the program, or what that has left behind."""
        return self._begun and not self._alive() and (self.goes_on or self._files.left)

    def begin(self) -> Shown:
        """There is one. Gives what tells how much of its files was shown."""
        self._begun = True
        return self._shown

    def end(self) -> None:
        """It is over: what is still written to its files is not its own."""
        if self._begun:
            self._ended = True
            self._files.leave()

    def close(self, *, delete: bool) -> None:
        """Nothing more will be asked."""
        if self._begun and delete:
            self._path.unlink(missing_ok=True)

    def _shown(self, stream: int) -> int:
        """Where nobody is left who shows the rest, nobody needs it."""
        if not self._alive():
            return sys.maxsize
        try:
            with self._path.open("rb") as file:
                return int.from_bytes(file.read(16)[8 * (stream - 1) : 8 * stream], "little")
        except OSError:
            return 0
