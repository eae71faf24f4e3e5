"""Starts the shipper of a worker, starts it again when it dies, hangs or leaks, and waits for it at the end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Protocol

from celery_livelog import spool
from celery_livelog.settings import Settings
from celery_livelog.shipper.memory import resident

logger = logging.getLogger("celery_livelog")

#: Seconds that a worker's end waits for its last lines to be sent.
DRAIN_SECONDS = 5.0
_LOOK_SECONDS = 1.0
#: Seconds without a beat after which a shipper counts as hung. It beats every round of its loop.
_HUNG_SECONDS = 30.0
_LONGEST_PAUSE = 30.0
#: Bytes beyond which a shipper counts as leaking: far more than it takes when all stores are away.
_LEAKING_BYTES = 1 << 30
#: Meant for the worker, which still has things to say: a shipper's end comes when the worker is gone and all is sent.
UNHEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def launch(directory: Path, output: int | None = None) -> subprocess.Popen[bytes]:
    """Start a process that ships a spool directory.

    :param output: where it shows and says things, if not where this process does.
    :raises OSError: when no process can be started.
    """
    command = [sys.executable, "-m", "celery_livelog.shipper", str(directory)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, UNHEEDED)  # what comes while it starts must not end it either
    try:
        # Its own session: a Ctrl-C in the terminal is not for it.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Supervisor(Protocol):
    """Keeps a shipper going."""

    def start(self) -> None:
        """Start the shipper."""

    def drain(self) -> None:
        """Let the shipper finish; wait for it, `DRAIN_SECONDS` at most."""


def supervisor(directory: Path, settings: Settings) -> Supervisor:
    """The supervisor that ``livelog_shipper`` asks for."""
    return (
        ProcessSupervisor(directory, settings)
        if settings.shipper == "process"
        else ThreadSupervisor(directory, settings)
    )


class ProcessSupervisor:
    """A shipper that is a process of its own: it outlives whatever is killed here.

    :param output: see `launch`.
    """

    def __init__(self, directory: Path, settings: Settings, output: int | None = None) -> None:
        self._output = output
        self._directory = directory
        self._settings = settings
        self._pid = os.getpid()
        self._lock = spool.Lock(directory, spool.WORKER)
        self._doorbell = spool.Doorbell(directory)
        self._leaving = threading.Event()
        self._shipper: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._look_after, name="livelog-supervisor", daemon=True)

    def start(self) -> None:
        """Start the shipper and the thread that looks after it.

        :raises OSError: when no process can be started.
        """
        self._lock.take()
        spool.keep_settings(self._directory, self._settings.to_json())
        self._shipper = launch(self._directory, self._output)
        self._thread.start()

    def drain(self) -> None:
        """See `Supervisor`. In a forked child this does nothing: the shipper is its parent's."""
        if os.getpid() != self._pid or self._leaving.is_set():
            return
        self.leave()
        if not self.wait(DRAIN_SECONDS):
            logger.warning(
                "livelog: the last lines are still on their way after %.0f s; process %d goes on with them from %s",
                DRAIN_SECONDS, self._shipper.pid if self._shipper else 0, self._directory,
            )  # fmt: skip

    def leave(self) -> None:
        """Let the shipper finish."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join(_LOOK_SECONDS)
        self._lock.release()
        self._doorbell.wake()

    def wait(self, seconds: float) -> bool:
        """Wait until the shipper has finished, after `leave`; give whether it has."""
        try:
            if self._shipper is not None:
                self._shipper.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _look_after(self) -> None:
        beat, still, pause = 0, 0.0, _LOOK_SECONDS
        while not self._leaving.wait(_LOOK_SECONDS):
            shipper = self._shipper
            if shipper is None or shipper.poll() is not None:
                if self._leaving.wait(pause):
                    return
                pause = min(2 * pause, _LONGEST_PAUSE)
                self._restart(shipper)
                still = 0.0
                continue
            last, beat = beat, self._doorbell.pulse()
            still = 0.0 if beat != last else still + _LOOK_SECONDS
            if still == 0.0:
                pause = max(_LOOK_SECONDS, pause - 0.1)
            elif still >= _HUNG_SECONDS:
                logger.warning("livelog: the shipper, process %d, hangs and is replaced", shipper.pid)
                shipper.kill()
            if resident(shipper.pid) > _LEAKING_BYTES:
                logger.warning("livelog: the shipper, process %d, takes over 1 GiB and is replaced", shipper.pid)
                shipper.kill()

    def _restart(self, dead: subprocess.Popen[bytes] | None) -> None:
        status = "did not start" if dead is None else f"ended with status {dead.returncode}"
        logger.warning("livelog: the shipper %s; starting another", status)
        try:
            self._shipper = launch(self._directory, self._output)
        except OSError as error:
            self._shipper = None
            logger.error("livelog: no shipper can be started: %s", error)


class ThreadSupervisor:
    """A shipper in a thread of this process: for eager tasks, tests and tiny containers."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._directory = directory
        self._settings = settings
        self._pid = os.getpid()
        self._lock = spool.Lock(directory, spool.WORKER)
        self._doorbell = spool.Doorbell(directory)
        self._leaving = threading.Event()
        # Duplicates: while a task runs, 1 and 2 themselves may point at its raw files.
        self._console = os.dup(1), os.dup(2)
        self._thread = threading.Thread(target=self._run, name="livelog-shipper", daemon=True)

    def start(self) -> None:
        """See `Supervisor`."""
        self._lock.take()
        spool.keep_settings(self._directory, self._settings.to_json())
        self._thread.start()

    def drain(self) -> None:
        """See `Supervisor`."""
        if os.getpid() != self._pid:
            return
        self._leaving.set()
        self._doorbell.wake()
        self._thread.join(DRAIN_SECONDS)
        self._lock.release()

    def _run(self) -> None:
        # Late: redis, obstore and SQLAlchemy are not wanted in every process that runs tasks.
        from celery_livelog.shipper.loop import ship

        ship(self._directory, self._settings, leaving=self._leaving.is_set, console=self._console)
