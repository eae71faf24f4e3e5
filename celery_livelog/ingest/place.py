"""A directory of this process' own for what waits for stores that are away. One that a killed process has left goes."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

from celery_livelog import spool
from celery_livelog.errors import SpoolError

#: No worker's directory is named so.
_PREFIX = "ingest."
_LOCK = "ingest"
#: Seconds for which it must have been left alone: one is made before it is locked.
_LEFT_ALONE_SECONDS = 10.0


class Place:
    """The directory.

    :raises SpoolError: when there can be none.
    """

    def __init__(self, root: str) -> None:
        self.directory = Path(root).absolute() / f"{_PREFIX}{secrets.token_hex(8)}"
        try:
            self.directory.mkdir(mode=0o700, parents=True)
            self._lock = spool.Lock(self.directory, _LOCK)
            self._lock.take()
            for left in self.directory.parent.glob(f"{_PREFIX}*"):
                if left.stat().st_mtime < time.time() - _LEFT_ALONE_SECONDS and not spool.held(left, _LOCK):
                    shutil.rmtree(left, ignore_errors=True)
        except OSError as error:
            raise SpoolError(f"the spool directory {root} cannot be used: {error.strerror or error}") from error

    def close(self) -> None:
        """Delete it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._lock.release()
