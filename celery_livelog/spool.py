"""The directory that a worker's processes share with its shipper: names, locks, the doorbell.

::

    <spool>/<worker>/              0700, one per worker process tree, named <host>-<pid>-<random>
        settings.json              0600, for the shipper and for one that comes after it: they hold passwords
        worker.lock                held by the worker's main process while it lives
        shipper.lock               held by the shipper that ships this directory
        doorbell                   FIFO: a byte wakes the shipper
        awake                      one byte, mapped: 1 while the shipper sleeps and wants to be rung for; then its pulse
        <process>.lock             held by a process that writes journals, while it lives
        <process>.000001.journal   what that process appended
        <process>.000001.done      the attempts in it whose logs are where they belong
        <process>.000001.copy      what the shipper took from that process' raw files
        archive.000001.waiting     what waits for a store that is away
        livelog-<process>-1.stdout raw file of its first task, where shared memory has no room for it
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import socket
import stat
from pathlib import Path

from celery_livelog.errors import SpoolError

WORKER = "worker"
SHIPPER = "shipper"
SETTINGS = "settings.json"
WAITING = ".waiting"
#: Where raw files lie when it has room for them.
SHARED_MEMORY = Path("/dev/shm")


def create(root: str) -> Path:
    """Make a new spool directory below `root`.

    :raises SpoolError: when that is not possible, in one line.
    """
    name = f"{_safe(socket.gethostname())}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        _private(Path(root))
        directory = Path(root) / name
        directory.mkdir(mode=0o700)
        os.mkfifo(directory / "doorbell", 0o600)
        (directory / "awake").write_bytes(bytes(_PAGE))
    except OSError as error:
        raise SpoolError(
            f"the spool directory {root} cannot be used ({error.strerror or error}); "
            "set livelog_dir or livelog_spool_dir to a directory that the worker may write"
        ) from error
    return directory


def keep_settings(directory: Path, settings: bytes) -> None:
    """Lay the worker's settings down for whoever ships the directory.

    :raises OSError: when they cannot be written.
    """
    fd = os.open(directory / SETTINGS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(settings)


def spent(directory: Path) -> int:
    """The bytes that journals, copies and what waits for stores in `directory` take."""
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith((".journal", ".copy", WAITING)):
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        pass  # a file went away while we looked
    return total


def raw_path(place: Path, process: str, name: str) -> Path:
    """Where a raw file of a process lies, in the spool directory or in shared memory."""
    return place / f"livelog-{process}-{name}"


def delete_raw_files(directory: Path, process: str) -> None:
    """Delete what there is of the raw files of a process that is gone, wherever they lie."""
    for place in (SHARED_MEMORY, directory):
        for path in place.glob(f"livelog-{process}-*"):
            path.unlink(missing_ok=True)


def _private(directory: Path) -> None:
    """Make `directory` if absent; refuse one that others may write or that belongs to another user."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):o}: not private to this user")
    probe = directory / f".{secrets.token_hex(4)}"
    probe.touch()
    probe.unlink()


def _safe(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name)[:40]


class Lock:
    """A POSIX lock that says "this process lives". Forked children do not inherit it; a kill -9 frees it.

    Trap: closing any other descriptor of the same file in the process drops it, so nothing else opens it there.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / f"{name}.lock"
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Take the lock unless another process holds it."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Give the lock up; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def held(directory: Path, name: str) -> bool:
    """Whether another process holds the lock `name`; never asked by the holder itself."""
    try:
        fd = os.open(directory / f"{name}.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


_PAGE = 16
_ASLEEP = 0
_PULSE = slice(8, 16)


class Doorbell:
    """Wakes the shipper when it sleeps; awake, it costs a look at a mapped byte. Never blocks, never raises."""

    def __init__(self, directory: Path) -> None:
        self._fifo = os.open(directory / "doorbell", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fd = os.open(directory / "awake", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._page = mmap.mmap(fd, _PAGE)
        finally:
            os.close(fd)

    def ring(self) -> None:
        """Called after each append."""
        if self._page[_ASLEEP]:
            self._page[_ASLEEP] = 0
            self.wake()

    def wake(self) -> None:
        """Wake the shipper whether or not it said that it sleeps."""
        try:
            os.write(self._fifo, b"!")
        except OSError:
            pass  # full of rings already, or the directory's file system has no room: the shipper looks by itself

    @property
    def fifo(self) -> int:
        """The descriptor that the shipper polls."""
        return self._fifo

    def doze(self) -> None:
        """Said by the shipper before its last look round: ring from now on."""
        self._page[_ASLEEP] = 1

    def rouse(self) -> None:
        """Said by the shipper when it is up again; takes the rings."""
        self._page[_ASLEEP] = 0
        try:
            os.read(self._fifo, 65536)
        except BlockingIOError:
            pass

    def beat(self, count: int) -> None:
        """Show that the shipper's loop goes round."""
        self._page[_PULSE] = count.to_bytes(8, "little")

    def pulse(self) -> int:
        """The shipper's last beat."""
        return int.from_bytes(self._page[_PULSE], "little")

    def close(self) -> None:
        """Let go of both; harmless when done twice."""
        if self._fifo >= 0:
            os.close(self._fifo)
            self._page.close()
            self._fifo = -1
