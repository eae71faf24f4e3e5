"""What livelog starts and ends in a process that runs tasks: spool directory, shipper, capture."""

from __future__ import annotations

import atexit
import logging
from pathlib import Path
from typing import Any

from celery_livelog import serving, spool
from celery_livelog.errors import LivelogError, hide_in_messages
from celery_livelog.process import Capture
from celery_livelog.settings import Settings, enabled
from celery_livelog.shipper.supervise import Supervisor, supervisor
from celery_livelog.watch import Watch

logger = logging.getLogger("celery_livelog")

_PREFORK = "celery.concurrency.prefork"
#: Where a spawned child, which inherits nothing, finds its worker's spool directory in the pickled app.
_SPOOL_KEY = "celery_livelog_spool"


class Lifecycle:
    """Livelog in one process. Whatever cannot be started is said once, and tasks run without it."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        #: The main process' own journal; None in all others.
        self.watch: Watch | None = None
        #: None while no attempts can be logged here.
        self.capture: Capture | None = None
        self._directory: Path | None = None
        self._supervisor: Supervisor | None = None
        self._refused = False

    def start(self, app: Any) -> None:
        """Make the spool directory and start a shipper, unless that is done."""
        if self.settings is not None or self._refused:
            return
        try:
            if not enabled(app.conf):
                return
            settings = Settings.from_conf(app.conf)
            hide_in_messages(settings.redactor)
            directory = spool.create(settings.spool_dir)
            self._supervisor = supervisor(directory, settings)
            self._supervisor.start()
        except (LivelogError, OSError) as error:
            self._refuse(str(error))
            return
        self.settings, self._directory = settings, directory
        _warn(settings)
        app.conf[_SPOOL_KEY] = str(directory)
        app.conf.include = (*app.conf.include, "celery_livelog.cli")
        atexit.register(self.stop)

    def start_watch(self, app: Any) -> None:
        """Start in a worker's main process, which notes what it does to its tasks and children."""
        self.start(app)
        if self.settings is not None and self._directory is not None and self.watch is None:
            serving.serve(self.settings)
            try:
                self.watch = Watch(self._directory, self.settings.spool_max_bytes)
            except OSError as error:
                logger.warning("livelog cannot tell how killed tasks ended: no journal: %s", error)

    def watch_children(self, pool: Any) -> None:
        """The pool runs: look after its processes, if it is one of processes."""
        if self.watch is not None and type(pool).__module__ == _PREFORK:
            self.watch.watch_children(pool)

    def start_process(self, app: Any, *, one_at_a_time: bool = True) -> None:
        """Open this process' journal."""
        if self.settings is None and app.conf.get(_SPOOL_KEY):
            self.settings, self._directory = Settings.from_conf(app.conf), Path(app.conf[_SPOOL_KEY])
        self.start(app)
        if self.settings is None or self._directory is None or self.capture is not None:
            return
        try:
            self.capture = Capture(self._directory, self.settings, one_at_a_time=one_at_a_time)
        except OSError as error:
            self.settings = None
            self._refuse(f"no journal in {self._directory}: {error}")

    def stop_process(self) -> None:
        """Close this process' journal and put its streams back. Harmless when done twice."""
        if self.capture is not None:
            self.capture.close()
            self.capture = None

    def stop(self) -> None:
        """Leave: the shipper gets time to send the last lines. Harmless when done twice."""
        self.stop_process()
        if self.watch is not None:
            self.watch.close()
            self.watch = None
            serving.withdraw()
        if self._supervisor is not None:
            self._supervisor.drain()
            self._supervisor = None
        self.settings = self._directory = None
        atexit.unregister(self.stop)

    @property
    def lease(self) -> str:
        """The name of the lease that the worker's shipper keeps up."""
        return self._directory.name if self._directory is not None else ""

    def _refuse(self, why: str) -> None:
        self._refused = True
        logger.error("livelog is off in this process: %s", why)


def _warn(settings: Settings) -> None:
    if settings.redis_url is None and settings.transport is None:
        logger.warning(
            "livelog has no Redis (livelog_redis_url, broker and result backend are none): logs are only archived"
        )
