"""Where raw files lie, the files to which a process' descriptors 1 and 2 point, and how they are named."""

from __future__ import annotations

import os
from pathlib import Path

#: Where raw files lie when it has room for them.
SHARED_MEMORY = Path("/dev/shm")
#: Free bytes that it must have for that: Docker gives 64 MiB, which one subprocess can fill.
_SHARED_MEMORY_ROOM = 256 * 1024 * 1024


def raw_place(directory: Path) -> Path:
    """Where raw files lie: in shared memory, or in the spool directory when that has no room."""
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError:
        return directory
    roomy = os.access(SHARED_MEMORY, os.W_OK) and room.f_bavail * room.f_frsize >= _SHARED_MEMORY_ROOM
    return SHARED_MEMORY if roomy else directory


def raw_path(place: Path, process: str, name: str) -> Path:
    """Where a raw file of a process lies, in the spool directory or in shared memory."""
    return place / f"livelog-{process}-{name}"


def shown_path(directory: Path, process: str) -> Path:
    """Where a process that shows its raw files by itself says how much of them it has shown: 8 bytes a stream."""
    return directory / f"{process}.shown"


def delete_raw_files(directory: Path, process: str) -> None:
    """Delete what there is of the raw files of a process that is gone, wherever they lie."""
    for place in (SHARED_MEMORY, directory):
        for path in place.glob(f"livelog-{process}-*"):
            path.unlink(missing_ok=True)
