"""A Celery worker of a project."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from tests.nodes.process import LocalProcess
from tests.nodes.project import Project


class Worker(LocalProcess):
    """``celery -A proj worker``, ready for tasks."""

    def __init__(
        self,
        project: Project,
        pool: str = "prefork",
        concurrency: int = 2,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        name: str = "worker",
        ready: str | None = " ready.",
    ) -> None:
        """Describe a worker.

        :param args: further options of the command; they come last and so win.
        :param ready: what it prints when it takes tasks; None not to wait.
        """
        self.hostname = f"{name}@localhost"
        self._ready = ready
        command = [sys.executable, "-m", "celery", "-A", project.app.main, "worker", "--hostname", self.hostname]
        command += ["--pool", pool, "--concurrency", str(concurrency), "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle", *args]  # they only cost time at the start
        super().__init__(name, command, project.directory, env)

    def start(self) -> None:
        """Run the worker and wait until it takes tasks."""
        super().start()
        if self._ready is not None:
            self.wait_for_output(self._ready)
