"""Runs: whatever shape a workflow has, all its tasks are one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, chain, chord, group

from celery_livelog import run
from tests.nodes import logs
from tests.nodes.project import Project
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

StartWorker = Callable[..., Worker]


def signature(app: Celery, name: str, *args: Any) -> Any:
    return app.signature(f"proj.{name}", args, immutable=True)


#: Each workflow with the number of its tasks.
WORKFLOWS: dict[str, tuple[Callable[[Callable[..., Any]], Any], int]] = {
    "task": (lambda s: s("print_lines"), 1),
    "chain": (lambda s: chain(s("print_lines"), s("print_lines"), s("print_lines")), 3),
    "group": (lambda s: group(s("print_lines"), s("print_lines")), 2),
    "chord": (lambda s: chord([s("print_lines"), s("print_lines")], s("print_lines")), 3),
    "group of chains": (
        lambda s: group(chain(s("print_lines"), s("print_lines")), chain(s("print_lines"), s("print_lines"))),
        4,
    ),
    "chord of chains": (
        lambda s: chord(
            [chain(s("print_lines"), s("print_lines")), chain(s("print_lines"), s("print_lines"))], s("print_lines")
        ),
        5,
    ),
    "group in a chain": (
        lambda s: chain(s("print_lines"), group(s("print_lines"), s("print_lines")), s("print_lines")),
        4,
    ),
    "sent by a task": (lambda s: s("call_next", 1), 2),
    "retry": (lambda s: s("retry_once"), 1),
    "replace": (lambda s: s("replace"), 1),
}


def runs(project: Project) -> dict[str, set[str]]:
    """The ended tasks of each run."""
    found: dict[str, set[str]] = {}
    for attempt in logs.ask(project, lambda reader: reader.recent(1000)):
        if attempt.state == "SUCCESS":
            found.setdefault(attempt.run_id, set()).add(attempt.task_id)
    return found


@pytest.mark.parametrize("named", [False, True])
def test_a_workflow_is_one_run(project: Project, worker: StartWorker, named: bool) -> None:
    """With a name, or by its place in a canvas."""
    worker(concurrency=2)
    sent = []
    for make, count in WORKFLOWS.values():
        workflow = make(lambda name, *args: signature(project.app, name, *args))
        if named:
            with run(account="a1", site="s7", name="nightly") as begun:
                workflow.apply_async()
            sent.append((begun.run_id, count))
        else:
            workflow.apply_async()
            sent.append(("", count))
    total = sum(count for _, count in sent)
    wait_for(lambda: sum(map(len, runs(project).values())) == total, what=f"{total} tasks")
    found = runs(project)
    assert sorted(map(len, found.values())) == sorted(count for _, count in sent)
    if named:
        assert {run_id: len(tasks) for run_id, tasks in found.items()} == dict(sent)
        scopes = {(attempt.account, attempt.site) for attempt in logs.ask(project, lambda reader: reader.recent(1000))}
        assert scopes == {("a1", "s7")}
