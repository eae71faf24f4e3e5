"""The directory of a run: readable files to which several processes append, on several hosts.

Whoever appends holds a lock, and notes before how long the files are and after that nothing is open any more. A process
that is killed in between has appended nothing: the next one takes back what is there of it. Files are not synced: what
a host that loses power had appended last may be gone.

Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from celery_livelog.runs import Run
from celery_livelog.stores import folders

#: What is not for people: whose the directory is, the lock, what is to be undone, how far each attempt has come.
_OWN = ".livelog"
_OWNER, _LOCK, _UNDO = "run", "lock", "undo"
#: Directories that are tried for a run: one that another run has taken, as of the same second, gets a number.
_TRIED = 100
#: So often a lock is asked for, and seconds between.
_LOCK_TRIES, _LOCK_SECONDS = 50, 0.01


class _Undo(msgspec.Struct):
    """How things stood: the lengths of files, 0 of those that did not exist, and what was noted of attempts."""

    sizes: dict[str, int]
    states: dict[str, str | None]


class RunDirectory:
    """The directory of a run, while its lock is held; see `locked`.

    All methods raise `OSError` when the file system does not do as asked.
    """

    def __init__(self, folder: int, own: int) -> None:
        self._folder = folder
        self._own = own
        self._roll_back()

    def has(self, name: str) -> bool:
        """Whether there is something in a file."""
        return self._size(name) > 0

    def state(self, attempt: str) -> bytes | None:
        """What `append` has noted of an attempt; None when that is nothing."""
        return folders.read(self._own, attempt)

    def append(self, files: Mapping[str, bytes], states: Mapping[str, bytes | None]) -> None:
        """Append to files and note states of attempts: all of it or nothing, whoever is killed meanwhile.

        :param files: whole lines, by name within the directory; there may be one folder in it.
        :param states: what is to be noted, UTF-8; None to note nothing any more.
        """
        known = {attempt: self.state(attempt) for attempt in states}
        undo = _Undo(
            sizes={name: self._size(name) for name in files},
            states={attempt: None if state is None else state.decode() for attempt, state in known.items()},
        )
        folders.replace(self._own, _UNDO, msgspec.json.encode(undo))
        try:
            for name, data in files.items():
                self._append(name, data)
            for attempt, state in states.items():
                folders.note(self._own, attempt, state)
        except BaseException:
            with suppress(OSError):  # else the next one does it
                self._roll_back()
            raise
        os.unlink(_UNDO, dir_fd=self._own)

    def _roll_back(self) -> None:
        """Take back what somebody who was killed has done of an `append`."""
        noted = folders.read(self._own, _UNDO)
        if noted is None:
            return
        try:
            undo = msgspec.json.decode(noted, type=_Undo)
        except msgspec.MsgspecError:  # lost with the power
            undo = _Undo({}, {})
        for name, size in undo.sizes.items():
            if self._size(name) > size:
                with folders.file(self._folder, name, os.O_WRONLY) as fd:
                    os.ftruncate(fd, size)
        for attempt, state in undo.states.items():
            folders.note(self._own, attempt, None if state is None else state.encode())
        os.unlink(_UNDO, dir_fd=self._own)

    def _append(self, name: str, data: bytes) -> None:
        with folders.file(self._folder, name, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
            if (written := os.write(fd, data)) < len(data):
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {written} of {len(data)} bytes", name)

    def _size(self, name: str) -> int:
        return folders.size(self._folder, name)


@contextmanager
def locked(root: Path, place: Sequence[str], run: Run) -> Iterator[RunDirectory]:
    """The directory of a run, made if it is not there; nobody else appends to it meanwhile.

    :param place: its path components below `root`; the last gets a number where another run has that directory.
    :raises BlockingIOError: when somebody else holds the lock for longer than an append takes.
    :raises OSError: when it cannot be made.
    """
    above = folders.top(root)
    for component in place[:-1]:
        above = folders.step(above, component)
    held: tuple[int, ...] = ()
    try:
        for name in _names(place[-1]):
            held = _taken(folders.inside(above, name), run)
            if held:
                yield RunDirectory(*held[:2])
                return
        raise OSError(errno.EEXIST, f"{_TRIED} runs have directories of this name; expected {{run_id}} in the template")
    finally:
        folders.close(above, *held)


def find(root: Path, place: Sequence[str], run_id: str) -> Path | None:
    """Where the directory of a run is; None when there is none."""
    folder = root.joinpath(*place[:-1])
    for name in _names(place[-1]):
        try:
            noted = (folder / name / _OWN / _OWNER).read_bytes()
        except OSError:
            return None
        if _is_of(noted, run_id):
            return folder / name
    return None


def _taken(folder: int, run: Run) -> tuple[int, ...]:
    """A directory that is the run's or was nobody's, the folder of our own in it and the lock; nothing if another's."""
    held = [folder]
    try:
        held.append(folders.inside(folder, _OWN))
        noted = folders.read(held[1], _OWNER)
        if noted is None or _is_of(noted, run.run_id):
            held.append(folders.lock_file(held[1], _LOCK))
            _lock(held[2])
            noted = folders.read(held[1], _OWNER)
        if noted is None:
            noted = msgspec.json.encode(run)
            folders.replace(held[1], _OWNER, noted)
        if _is_of(noted, run.run_id):
            return tuple(held)
    except BaseException:
        folders.close(*held)
        raise
    folders.close(*held)
    return ()


def _lock(fd: int) -> None:
    """Take a lock; others hold it for a moment at a time, unless they hang."""
    pause = threading.Event()
    for _ in range(_LOCK_TRIES - 1):
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        pause.wait(_LOCK_SECONDS)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _names(name: str) -> Iterator[str]:
    yield name
    for number in range(2, _TRIED + 1):
        yield f"{name}_{number}"


def _is_of(noted: bytes, run_id: str) -> bool:
    try:
        return msgspec.json.decode(noted, type=Run).run_id == run_id
    except msgspec.MsgspecError:
        return False
