"""The directory that a worker's processes share with its shipper: names, locks, the doorbell.

::

    <spool>/<worker>/              0700, one per worker process tree, named <host>-<pid>-<random>
        settings.json              0600, for the shipper and for one that comes after it: they hold passwords
        worker.lock                held by the worker's main process while it lives
        shipper.lock               held by the shipper that ships this directory
        doorbell                   FIFO: a byte wakes the shipper
        awake                      one byte, mapped: 1 while the shipper sleeps and wants to be rung for; then its pulse
        <process>.lock             held by a process that writes journals, while it lives
        <process>.shown            how much of its raw files it has shown, if that is not the shipper's to do
        <process>.000001.journal   what that process appended
        <process>.000001.done      the attempts in it whose logs are where they belong
        <process>.000001.copy      what the shipper took from that process' raw files
        archive.000001.waiting     what waits for a store that is away
        livelog-<process>-1.stdout raw file of its first task, where shared memory has no room for it
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import secrets
import socket
import stat
import struct
from pathlib import Path

from celery_livelog.errors import SpoolError
from celery_livelog.files import aside, leave_out_of_forks, map_page, private_file, unmap_page
from celery_livelog.interrupts import is_interrupt

WORKER = "worker"
SHIPPER = "shipper"
SETTINGS = "settings.json"
WAITING = ".waiting"


def create(root: str) -> Path:
    """Make a new spool directory below `root`.

    :raises SpoolError: when that is not possible, in one line.
    """
    name = f"{_safe(socket.gethostname())}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        _private(Path(root))
        directory = Path(root).absolute() / name
        directory.mkdir(mode=0o700)
        os.mkfifo(directory / "doorbell", 0o600)
        fd = private_file(directory / "awake", os.O_WRONLY)
        os.write(fd, bytes(_BELL_BYTES))
        os.close(fd)
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


def _private(directory: Path) -> None:
    """Make `directory` if absent; refuse one that others may write, that is another user's, or that they lead us to."""
    absent = [path for path in (directory, *directory.parents) if not os.path.lexists(path)]
    for path in reversed(absent):
        path.mkdir(mode=0o700, exist_ok=True)  # with `parents`, mkdir leaves those to the umask
    if directory.lstat().st_uid not in (os.geteuid(), 0):
        raise PermissionError(f"owner {directory.lstat().st_uid}: not this user's")
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):o}: not private to this user")
    probe = directory / f".{secrets.token_hex(4)}"
    probe.touch()
    probe.unlink()


def _safe(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name)[:40]


class Lock:
    """A lock that says "this process lives". Forked children do not inherit it; a kill -9 frees it.

    It belongs to an open file that only a mapping refers to, which a fork leaves out: a task that closes descriptors it
    did not open does not end its process for those who ask.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / f"{name}.lock"
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._mapped = 0
        self._pid = os.getpid()

    def take(self) -> bool:
        """Take the lock unless another process holds it."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except OSError:
            return False
        self._mapped = map_page(self._fd, mmap.PROT_READ)
        leave_out_of_forks(self._mapped)
        os.close(self._fd)
        self._fd = -1
        return True

    def release(self) -> None:
        """Give the lock up; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
        if self._mapped and os.getpid() == self._pid:  # in a forked child something else may be there
            unmap_page(self._mapped)
        self._fd, self._mapped = -1, 0


def held(directory: Path, name: str) -> bool:
    """Whether a process holds the lock `name`."""
    try:
        fd = os.open(directory / f"{name}.lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE_FILE)
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid
_WHOLE_FILE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)

_BELL_BYTES = 16
_ASLEEP = 0
_PULSE = slice(8, 16)


class Doorbell:
    """Wakes the shipper when it sleeps; awake, it costs a look at a mapped byte. Never blocks, never raises."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "doorbell"
        self._fifo = self._open()
        fd = os.open(directory / "awake", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            page = (ctypes.c_ubyte * _BELL_BYTES).from_address(map_page(fd, mmap.PROT_READ | mmap.PROT_WRITE))
        finally:
            os.close(fd)
        self._page = memoryview(page).cast("B")  # stays mapped: some thread may look at it at any moment

    def ring(self) -> None:
        """Called after each append."""
        if self._page[_ASLEEP]:
            self._page[_ASLEEP] = 0
            self.wake()

    def wake(self) -> None:
        """Wake the shipper whether or not it said that it sleeps."""
        try:
            os.write(self._fifo, b"!")
        except OSError as error:
            # Full of rings already, or the directory's file system has no room: the shipper looks by itself.
            if is_interrupt(error):
                raise
            if error.errno == errno.EBADF and self._fifo >= 0:
                self._ring_again()

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
            fifo, self._fifo = self._fifo, -1
            try:
                os.close(fifo)
            except OSError:
                pass  # the task has done it

    def _open(self) -> int:
        return aside(os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))

    def _ring_again(self) -> None:
        """The task has closed our descriptor."""
        try:
            self._fifo = self._open()
            os.write(self._fifo, b"!")
        except OSError:
            pass
