"""Fixtures for tests with real servers; each ends what it has started, by its own process id."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.nodes.flower import Flower
from tests.nodes.process import LocalProcess
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.worker import Worker

P = TypeVar("P", bound=LocalProcess)

_STARTED = pytest.StashKey[list[LocalProcess]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the processes of the test have written."""
    report = yield
    if report.failed:
        for process in item.stash.get(_STARTED, []):
            report.sections.append((f"output of {process!r}", process.report()))
    return report


@pytest.fixture
def project(valkey: Valkey, tmp_path: Path) -> Iterator[Project]:
    """A project with livelog on and all its files in `tmp_path`; change its settings with `configure`."""
    project = Project(tmp_path / "project", valkey.url)
    yield project
    project.close()


@pytest.fixture
def launch(request: pytest.FixtureRequest) -> Iterator[Callable[[P], P]]:
    """Start a process of ``tests.nodes``; all are ended with the test, the last one first."""
    started: list[LocalProcess] = request.node.stash.setdefault(_STARTED, [])
    with ExitStack() as ends:

        def start(process: P) -> P:
            started.append(process)
            ends.callback(process.end)
            process.start()
            return process

        yield start


@pytest.fixture
def worker(project: Project, launch: Callable[[Worker], Worker]) -> Callable[..., Worker]:
    """Start a worker of the project and wait until it is ready; the options are those of ``tests.nodes.worker``."""
    names = (f"worker{number}" for number in range(1, 100))

    def start(**options: Any) -> Worker:
        return launch(Worker(project, **{"name": next(names), **options}))

    return start


@pytest.fixture
def flower(project: Project, launch: Callable[[Flower], Flower]) -> Callable[..., Flower]:
    """Start a Flower of the project and wait until it answers; the options are those of ``tests.nodes.flower``."""
    names = (f"flower{number}" for number in range(1, 100))

    def start(**options: Any) -> Flower:
        return launch(Flower(project, **{"name": next(names), **options}))

    return start
