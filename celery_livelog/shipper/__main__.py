"""The shipper as a process: ``python -m celery_livelog.shipper DIRECTORY`` with the worker's settings on stdin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from celery_livelog import spool
from celery_livelog.settings import Settings
from celery_livelog.shipper.loop import ship


def main() -> None:
    """Ship the directory that the command line names."""
    # Meant for the worker, which still has things to say: the end comes when it is gone and all is sent.
    for unheeded in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(unheeded, signal.SIG_IGN)
    directory = Path(sys.argv[1])
    text = sys.stdin.buffer.read()
    settings = Settings.from_json(text)
    if spool.held(directory, spool.WORKER):
        for abandoned in _abandoned(directory):
            _ship_too(abandoned, text)
    ship(directory, settings, leaving=lambda: not spool.held(directory, spool.WORKER))


def _abandoned(own: Path) -> list[Path]:
    """Directories of this host beside ours whose worker and shipper are gone: what they hold is still to be shipped."""
    host = own.name.rsplit("-", 2)[0]
    return [
        path
        for path in own.parent.glob(f"{host}-*")
        if path != own and path.is_dir() and path.stat().st_uid == os.geteuid()
        if not spool.held(path, spool.WORKER) and not spool.held(path, spool.SHIPPER)
    ]


def _ship_too(directory: Path, settings: bytes) -> None:
    command = [sys.executable, "-m", "celery_livelog.shipper", str(directory)]
    shipper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert shipper.stdin is not None
    with shipper.stdin as stdin:
        stdin.write(settings)


if __name__ == "__main__":
    main()
