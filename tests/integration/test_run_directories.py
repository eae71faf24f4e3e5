"""Run directories: what the workers of a run write there, whoever is killed and whatever disk is away."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from celery_livelog import run
from celery_livelog.runs import Run
from tests.nodes import logs
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

StartWorker = Callable[..., Worker]
TEMPLATE = "{account}/{site}/{run_id}"


@pytest.fixture
def root(project: Project, tmp_path: Path) -> Path:
    """The root of the project's run directories."""
    project.configure(livelog_run_dir=f"{tmp_path}/runs/{TEMPLATE}")
    return tmp_path / "runs"


def folder(root: Path, begun: Run) -> Path:
    return root / begun.account / begun.site / begun.run_id


def said(folder: Path, task_id: str) -> list[str]:
    """What the run's log has of a task, without times."""
    log = (folder / "run.log").read_text() if (folder / "run.log").exists() else ""
    return re.findall(rf"^[\d-]+ [\d:.+]+ \w+\[{task_id[:8]}\] (.*)$", log, re.MULTILINE)


def has_ended(folder: Path, task_id: str) -> bool:
    return any(line.startswith("[SUCCESS") for line in said(folder, task_id)[-1:])


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def shipper_of(worker: Worker) -> psutil.Process:
    family = psutil.Process(worker.pid).children(recursive=True)
    return next(process for process in family if "celery_livelog.shipper" in process.cmdline())


def test_two_workers_append_to_one_run(project: Project, worker: StartWorker, root: Path) -> None:
    """Every line of every task is there, whole, once and in the order in which its task printed it."""
    workers = [worker(concurrency=2), worker(concurrency=2)]
    with run(account="a1", site="s7", name="nightly") as begun:
        tasks = [project.send("print_lines", 2000, f"{number}-" + "x" * 500) for number in range(8)]
    here = folder(root, begun)
    wait_for(lambda: all(has_ended(here, task.id) for task in tasks), what="all tasks in the run's log")
    for number, task in enumerate(tasks):
        begins, *lines, end = said(here, task.id)
        assert begins.startswith(f"[begins: task {task.id} on worker")
        assert lines == [f"{number}-{'x' * 500} {line}" for line in range(1, 2001)]
        assert end == "[SUCCESS]"
    *head, empty = (here / "run.log").read_text().splitlines()[:7]
    assert all(line.startswith("# ") for line in head)
    assert empty == ""
    assert len((here / "run.log").read_text().splitlines()) == 7 + 8 * 2002
    trace = [entry["type"] for entry in objects(here / "run_trace.jsonl")]
    assert sorted(trace) == ["log_line_end"] * 8 + ["run_start"]
    own = here / ".livelog"
    wait_for(lambda: sorted(path.name for path in own.iterdir()) == ["lock", "run"], what="nothing more to note")
    assert [running.stop() for running in workers] == [0, 0]


@pytest.mark.parametrize("budget", [1_500_000, 100_000_000])
def test_killed_shippers_write_nothing_twice(
    project: Project, worker: StartWorker, valkey: Valkey, root: Path, budget: int
) -> None:
    """Each line is there once, in order. What a journal with little room had let go before is counted."""
    project.configure(livelog_spool_max_bytes=budget)
    running = worker(concurrency=1)
    with run(account="a1", site="s7") as begun:
        task = project.send("print_in_turns", "go", 10_000, 4)
    here = folder(root, begun)
    for turn in range(1, 4):
        if turn in (1, 3):
            wait_for(lambda seen=10_000 * turn - 8_000: len(said(here, task.id)) > seen, what="the turn's first lines")
            shipper_of(running).kill()
        wait_for(lambda turn=turn: said(here, task.id)[-1:] == [str(10_000 * turn)], what="the turn's last line")
        valkey.client.rpush("go", 1)
    wait_for(lambda: has_ended(here, task.id), what="the end")
    _, *lines, _ = said(here, task.id)
    at = 0
    for line in lines:
        gap = re.fullmatch(r"\[(\d+) messages skipped\]", line)
        at += int(gap[1]) if gap else 1
        assert gap or line == str(at)
    assert at == 40_000
    assert len(lines) == 40_000 or budget == 1_500_000


@pytest.mark.parametrize(("broken", "whole"), [("runs", "shared"), ("shared", "runs")])
def test_one_of_two_roots_cannot_be_written(
    project: Project, worker: StartWorker, tmp_path: Path, broken: str, whole: str
) -> None:
    """The other has everything, the console says what fails, and the log is archived as ever."""
    project.configure(
        livelog_run_dir=f"{tmp_path}/runs/{TEMPLATE}", livelog_shared_run_dir=f"{tmp_path}/shared/{TEMPLATE}"
    )
    (tmp_path / broken).write_text("not a directory")
    running = worker(concurrency=1)
    with run(account="a1", site="s7") as begun:
        task = project.send("print_lines", 3)
    here = folder(tmp_path / whole, begun)
    wait_for(lambda: has_ended(here, task.id), what="the run's log")
    assert said(here, task.id)[1:-1] == ["line 1", "line 2", "line 3"]
    assert logs.lines(logs.archived(project, task.id)) == ["line 1", "line 2", "line 3"]
    running.wait_for_output("run directories lack run")
    assert running.stop() == 0


def test_what_is_masked_is_in_no_file(project: Project, worker: StartWorker, root: Path) -> None:
    """Also in stages, traces, results and exceptions, which the stages' files repeat."""
    secrets = ["first-s3cr3t-of-the-test", "second-s3cr3t-of-the-test"]
    worker(concurrency=1, env={"TEST_SECRETS": "|".join(secrets), "TEST_PASSWORD": secrets[0]})
    with run(account="a1", site="s7", name=secrets[0]) as begun:
        task = project.send("leak", kwargs={"fails": True})
    here = folder(root, begun)
    wait_for(lambda: "[FAILURE" in "".join(said(here, task.id)[-1:]), what="the end")
    text = "".join(path.read_text() for path in here.rglob("*") if path.is_file())
    assert "***" in text
    assert "s3cr3t" not in text


def test_what_has_no_name_has_no_directory(project: Project, worker: StartWorker, root: Path) -> None:
    """A single task, or a canvas that nobody has begun as a run."""
    worker(concurrency=1)
    logs.archived(project, project.send("print_lines").id)
    assert not root.exists()
