"""Files and descriptors that are ours in a process that is the task's: private, and out of its way."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import resource
from pathlib import Path

#: The first number for descriptors of ours, and how many there must be room for below the process' limit.
_ASIDE, _ASIDE_ROOM = 960, 64


def private_file(path: Path, flags: int) -> int:
    """Make a file that only we can read, whatever the umask; give its descriptor, out of the way.

    :raises OSError: when it cannot be made, or when something is there.
    """
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.fchmod(fd, 0o600)  # a task's umask may have taken our own rights too
    return aside(fd)


def aside(fd: int) -> int:
    """Move a descriptor to a high number.

    Programs get the lowest free one: theirs are then the same as without us, and who closes all descriptors, as daemons
    do, gets none of our numbers for a file of their own, which we would then write to.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, min(_ASIDE, max(limit - _ASIDE_ROOM, 3)))
    except OSError:
        return fd
    os.close(fd)
    return moved


def in_place_of(old: int, new: int) -> int:
    """Let a descriptor take the number of another, which some thread may be using; give the number that it then has."""
    try:
        os.dup2(new, old, inheritable=False)
    except OSError:
        return new  # the task has lowered its limit of descriptors below that number
    os.close(new)
    return old


def map_page(fd: int, protection: int) -> int:
    """Map the first page of a file for good. Python's own `mmap` keeps a descriptor of it.

    :raises OSError: when there is no memory for it.
    """
    address = _LIBC.mmap(None, mmap.PAGESIZE, protection, mmap.MAP_SHARED, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


def leave_out_of_forks(address: int) -> None:
    """Let children of this process be without a mapped page."""
    _LIBC.madvise(address, mmap.PAGESIZE, mmap.MADV_DONTFORK)


def unmap_page(address: int) -> None:
    """Undo `map_page`."""
    _LIBC.munmap(address, mmap.PAGESIZE)


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc


_LIBC = _libc()
