"""livelog in the setup that pytest-celery builds, as users of that plugin run their own workers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from celery import Celery
from pytest_celery import CELERY_REDIS_BACKEND, CELERY_REDIS_BROKER, CeleryTestSetup, CeleryWorkerContainer

from tests.integration import talkative
from tests.nodes.containers import LocalRedis, ProcessAsContainer
from tests.nodes.process import LocalProcess
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

Launch = Callable[[LocalProcess], LocalProcess]


@pytest.fixture
def default_redis_broker(launch: Callable[[Valkey], Valkey], tmp_path: Path) -> LocalRedis:
    return LocalRedis(launch(Valkey(tmp_path, name="broker")))


@pytest.fixture
def default_redis_backend(launch: Callable[[Valkey], Valkey], tmp_path: Path) -> LocalRedis:
    return LocalRedis(launch(Valkey(tmp_path, name="backend")))


@pytest.fixture(params=[CELERY_REDIS_BROKER])
def celery_broker(request: pytest.FixtureRequest) -> object:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[CELERY_REDIS_BACKEND])
def celery_backend(request: pytest.FixtureRequest) -> object:
    return request.getfixturevalue(request.param)


@pytest.fixture
def default_worker_tasks(default_worker_tasks: set[ModuleType]) -> set[ModuleType]:
    return {*default_worker_tasks, talkative}


@pytest.fixture
def celery_setup_app(celery_setup_app: Celery, tmp_path: Path) -> Celery:
    """All that a project does for livelog is one setting; the other one keeps its files where the test's are."""
    celery_setup_app.conf.livelog = True
    celery_setup_app.conf.livelog_dir = str(tmp_path / "livelog")
    return celery_setup_app


@pytest.fixture
def default_worker_container(
    default_worker_command: list[str],
    default_worker_env: dict[str, str],
    default_worker_initial_content: dict[str, bytes],
    launch: Launch,
    tmp_path: Path,
) -> CeleryWorkerContainer:
    directory = tmp_path / "worker"
    for name, content in default_worker_initial_content.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    env = {**default_worker_env, "PYTHONPATH": str(directory)}
    process = launch(LocalProcess("worker", [sys.executable, "-m", *default_worker_command], directory, env))
    return CeleryWorkerContainer(ProcessAsContainer(process))


def talk(setup: CeleryTestSetup) -> list[dict[str, str]]:
    """Run a task that prints three lines; return the entries of its stream when the last one is there."""
    task_id = talkative.talk.s(3).apply_async(queue=setup.worker.worker_queue).id
    client = setup.broker.container.client

    def entries() -> list[dict[str, str]]:
        found = [fields for _, fields in client.xrange(f"task:logs:{task_id}")]
        return found if found and found[-1]["type"] == "log_line_end" else []

    return wait_for(entries, what="the end of the task's log")


def test_a_tasks_lines_are_in_redis(celery_setup: CeleryTestSetup) -> None:
    """A worker of pytest-celery with ``livelog`` on sends each line that a task prints, and how it ended."""
    assert celery_setup.ready(ping=True, control=True)
    *lines, end = talk(celery_setup)
    assert [(entry["stream"], entry["line"]) for entry in lines] == [("stdout", f"talking {n}") for n in (1, 2, 3)]
    assert end["state"] == "SUCCESS"


def test_a_worker_that_was_killed_sends_lines_again(celery_setup: CeleryTestSetup) -> None:
    """Nothing that a killed worker leaves behind is in the way of the next one."""
    talk(celery_setup)
    celery_setup.worker.kill()
    celery_setup.worker.restart()
    assert [entry["line"] for entry in talk(celery_setup)[:-1]] == ["talking 1", "talking 2", "talking 3"]
