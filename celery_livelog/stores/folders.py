"""Files and folders by the descriptor of the folder that they are in: no symbolic link leads elsewhere.

Folders have mode 0750 and files 0640, less what the umask takes: the group may read, for a web server or a collector of
logs; what tasks print is nobody else's business.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER_MODE, _FILE_MODE = 0o750, 0o640
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: a named pipe without a reader is an error, and nothing to wait for.
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def top(path: Path) -> int:
    """Open a folder by its path, and make it if it is not there; here links are followed."""
    path.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def inside(folder: int, name: str) -> int:
    """Open a folder in a folder, and make it if it is not there."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        with suppress(FileExistsError):  # somebody was faster
            os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
        return os.open(name, _FOLDER, dir_fd=folder)


def step(folder: int, name: str) -> int:
    """As `inside`, and let go of the folder that it is in."""
    try:
        return inside(folder, name)
    finally:
        os.close(folder)


def close(*descriptors: int) -> None:
    """Let go of all of these."""
    for fd in descriptors:
        os.close(fd)


@contextmanager
def file(folder: int, name: str, flags: int) -> Iterator[int]:
    """A file in a folder, or in one of its folders.

    :raises OSError: also when there is something that is not a file.
    """
    inner, _, base = name.rpartition("/")
    where = inside(folder, inner) if inner else os.dup(folder)
    try:
        fd = os.open(base, flags | _FILE, _FILE_MODE, dir_fd=where)
    finally:
        os.close(where)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a file", name)
        yield fd
    finally:
        os.close(fd)


def lock_file(folder: int, name: str) -> int:
    """A file to be locked."""
    return os.open(name, os.O_RDWR | os.O_CREAT | _FILE, _FILE_MODE, dir_fd=folder)


def size(folder: int, name: str) -> int:
    """The bytes of a file; 0 when there is none."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def read(folder: int, name: str) -> bytes | None:
    """A whole file; None when there is none."""
    try:
        with file(folder, name, os.O_RDONLY) as fd, open(fd, "rb", closefd=False) as opened:
            return opened.read()
    except FileNotFoundError:
        return None


def replace(folder: int, name: str, data: bytes) -> None:
    """Write a file as a whole or not at all; only one process at a time may do so in a folder."""
    with file(folder, "new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd, open(fd, "wb", closefd=False) as opened:
        opened.write(data)
    os.replace("new", name, src_dir_fd=folder, dst_dir_fd=folder)


def note(folder: int, name: str, data: bytes | None) -> None:
    """As `replace`; with None there is no such file then."""
    if data is not None:
        replace(folder, name, data)
        return
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
