"""The site of a class of tests, and workers for single ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.site import Site
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

StartWorker = Callable[..., Project]
_ENV = {"PYTHONPATH": str(Path(__file__).parent.parent.parent)}


@pytest.fixture(scope="class")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a worker. At its end nothing is left: in the spool, in shared memory, in Redis for ever."""
    site = Site(tmp_path_factory.mktemp("site"), livelog_maxlen=3000)
    try:
        site.start_worker(concurrency=3)
        yield site
        assert site.stop_worker() == 0, site.worker.report()
        wait_for(lambda: site.left() == [], what="an empty spool")
    finally:
        site.close()


@pytest.fixture
def start_worker(valkey: Valkey, tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker with one thread or process for tasks; gives its project."""
    with ExitStack() as ends:

        def start(pool: str = "prefork", **settings: Any) -> Project:
            project = Project(tmp_path / "project", valkey.url)
            ends.callback(project.close)
            project.configure(include=["tests.faults.audited"], **settings)
            worker = Worker(project, pool=pool, concurrency=1, env=_ENV)
            ends.callback(worker.end)
            worker.start()
            return project

        yield start
