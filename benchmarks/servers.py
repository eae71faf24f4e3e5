"""A Valkey, workers and their shippers for one benchmark; all ended with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import psutil
from celery.result import AsyncResult

from tests.nodes.flower import Flower
from tests.nodes.process import LocalProcess, free_port
from tests.nodes.project import Project
from tests.nodes.relay import Relay
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

P = TypeVar("P", bound=LocalProcess)

#: So that the projects find ``benchmarks.tasks``.
_ENV = {"PYTHONPATH": str(Path(__file__).parent.parent)}
_TIMEOUT = 60.0


class Site:
    """A worker with one process for tasks, its project, and a Flower when asked for."""

    def __init__(self, project: Project, worker: Worker, valkey: Valkey) -> None:
        self.project = project
        self.worker = worker
        self.valkey = valkey

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult:
        """Send a task of ``benchmarks.tasks``."""
        return self.project.app.send_task(f"benchmarks.tasks.{task}", args, **options)

    def run(self, task: str, *args: Any) -> Any:
        """Run a task of ``benchmarks.tasks`` and give its result."""
        return self.send(task, *args).get(timeout=_TIMEOUT)

    @property
    def shipper(self) -> psutil.Process:
        """The worker's shipper."""
        return next(process for process in self._children() if "celery_livelog.shipper" in process.cmdline())

    @property
    def child(self) -> psutil.Process:
        """The process that runs the worker's tasks."""
        return next(process for process in self._children() if "celery_livelog.shipper" not in process.cmdline())

    def _children(self) -> list[psutil.Process]:
        children: list[psutil.Process] = psutil.Process(self.worker.pid).children()
        return children


class Servers:
    """What a benchmark has started."""

    def __init__(self, directory: Path, ends: ExitStack) -> None:
        self._directory = directory
        self._ends = ends
        self.valkey = self._start(Valkey(directory))

    def site(self, name: str, **settings: Any) -> Site:
        """Start a worker of a project with these settings; `name` is that of its queue too."""
        project = Project(self._directory / name, self.valkey.url)
        self._ends.callback(project.close)
        project.configure(include=["benchmarks.tasks"], task_default_queue=name, **settings)
        project.app.conf.task_default_queue = name
        return Site(project, self._start(Worker(project, concurrency=1, env=_ENV, name=name)), self.valkey)

    def flower(self, site: Site) -> Flower:
        """Start a Flower for a site."""
        return self._start(Flower(site.project, env=_ENV))

    def relay(self, site: Site, **more: str) -> Relay:
        """Start a relay of a site's logs for as many viewers as come, on a port that it keeps."""
        settings = {"LIVELOG_REDIS_URL": self.valkey.url, "LIVELOG_DIR": site.project.conf["livelog_dir"], **more}
        many = [f"--port={free_port()}", "--max-connections=10000", "--max-per-address=10000"]
        return self._start(Relay(site.project.directory, settings, many))

    def _start(self, process: P) -> P:
        self._ends.callback(process.end)
        process.start()
        return process


@contextmanager
def servers() -> Iterator[Servers]:
    """Start a Valkey; what is started beside it ends with it."""
    with TemporaryDirectory(prefix="livelog-bench-") as directory, ExitStack() as ends:
        yield Servers(Path(directory), ends)


def cpu_seconds(process: psutil.Process) -> float:
    """The CPU time that a process has had."""
    times = process.cpu_times()
    return float(times.user + times.system)


def wait_until_quiet(process: psutil.Process) -> None:
    """Wait until a process has had next to no CPU time for half a second."""
    seen: list[float] = []

    def quiet() -> bool:
        seen.append(cpu_seconds(process))
        return len(seen) > 25 and seen[-1] - seen[-25] <= 0.02

    wait_for(quiet, _TIMEOUT, f"{process} to be idle")
