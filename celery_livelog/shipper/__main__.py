"""The shipper as a process: ``python -m celery_livelog.shipper DIRECTORY``. The directory has the settings, too."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from celery_livelog import spool
from celery_livelog.settings import Settings
from celery_livelog.shipper.loop import ship
from celery_livelog.shipper.parts import processes
from celery_livelog.shipper.supervise import UNHEEDED, launch

#: Seconds for which a directory must have been left alone: a worker makes its own before it takes the lock.
_LEFT_ALONE_SECONDS = 10.0


def main() -> None:
    """Ship the directory that the command line names."""
    for unheeded in UNHEEDED:
        signal.signal(unheeded, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    gc.freeze()  # what is imported stays: looking through it again and again costs a seventh of all time under load
    directory = Path(sys.argv[1])
    if _over(directory):
        return
    try:
        _ship(directory)
    except FileNotFoundError:
        if not _over(directory):  # else another shipper has just come to its end
            raise


def _ship(directory: Path) -> None:
    settings = Settings.from_json((directory / spool.SETTINGS).read_bytes())
    if spool.held(directory, spool.WORKER):
        for abandoned in _abandoned(directory):
            launch(abandoned)
    ship(directory, settings, leaving=lambda: not spool.held(directory, spool.WORKER))


def _over(directory: Path) -> bool:
    """Whether nothing is left to be shipped; what a shipper that was killed while it tidied up has left goes, too."""
    try:
        if spool.held(directory, spool.WORKER) or processes(directory):
            return False
    except FileNotFoundError:
        return True
    shutil.rmtree(directory, ignore_errors=True)
    return True


def _abandoned(own: Path) -> list[Path]:
    """Directories of this host beside ours whose worker and shipper are gone: what they hold is still to be shipped."""
    host = own.name.rsplit("-", 2)[0]
    return [
        path
        for path in own.parent.glob(f"{host}-*")
        if path != own and path.is_dir() and path.stat().st_uid == os.geteuid()
        if path.stat().st_mtime < time.time() - _LEFT_ALONE_SECONDS
        if not spool.held(path, spool.WORKER) and not spool.held(path, spool.SHIPPER)
    ]


if __name__ == "__main__":
    main()
