"""Stages of real tasks: each line belongs to the right one, and what was said last is there, also after a kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from celery_livelog.records import End, Line, StageComplete, StageProgress, StageStart, Trace
from tests.nodes import logs
from tests.nodes.project import Project
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

StartWorker = Callable[..., Worker]


def test_lines_of_concurrent_stages(project: Project, worker: StartWorker) -> None:
    """In threads, asyncio tasks and subprocesses; what was logged has its key-values."""
    worker()
    found = logs.archived(project, project.run("pipeline").id)
    number = {record.name: record.stage for record in found if isinstance(record, StageStart)}
    assert sorted(number.values()) == [1, 2, 3, 4, 5, 6]
    assert number["Whole"] == 1
    lines = [record for record in found if isinstance(record, Line)]
    assert len(lines) == 7
    for line in lines:
        assert line.stage == number[line.line.split()[0]], line
    assert {line.line: line.fields for line in lines if line.level} == {
        f"{name} logs": {"of": name} for name in ("one", "two")
    }
    (trace,) = (record for record in found if isinstance(record, Trace))
    assert (trace.event, trace.stage) == ("done", 1)
    assert [record.stage for record in found if isinstance(record, StageComplete)][-1] == 1


def test_the_last_progress_of_a_killed_task(project: Project, worker: StartWorker) -> None:
    """Steps that came too fast to be told are told when no more come; the catalog calls the stage interrupted."""
    worker()
    task_id = project.send("advance_and_hold", "never-pushed", 5000).id

    def done() -> int:
        found = logs.records(project, task_id)
        return max((record.done for record in found if isinstance(record, StageProgress)), default=0)

    wait_for(lambda: done() == 5000, what="the last progress")
    (attempt,) = logs.attempts(project, task_id)
    os.kill(attempt.pid, signal.SIGKILL)
    found = logs.archived(project, task_id)
    assert isinstance(found[-1], End)
    assert len([record for record in found if isinstance(record, StageProgress)]) <= 3
    run_id = attempt.run_id
    wait_for(
        lambda: (
            [(stage.name, stage.state, stage.done) for stage in logs.ask(project, lambda r: r.runs.stages(run_id))]
            == [("Count", "interrupted", 5000)]
        ),
        what="the stage in the catalog",
    )


def test_markers_of_a_script(project: Project, worker: StartWorker) -> None:
    """They make stages in the task and in a subprocess alike; a masked value is in no store."""
    project.configure(livelog_markers=["github", "gitlab"])
    worker()
    script = (
        "echo preparing; echo ::group::Build; echo ::add-mask::made-up-value; echo it is made-up-value; "
        "echo ::endgroup::; printf 'section_start:1:test\\r\\033[0KTest it\\n'; echo testing"
    )
    found = logs.archived(project, project.run("run_script", script).id)
    number = {record.name: record.stage for record in found if isinstance(record, StageStart)}
    assert number == {"Prepare": 1, "Build": 2, "Test it": 3}
    assert {record.line: record.stage for record in found if isinstance(record, Line)} == {
        "::group::Prepare": 1,
        "preparing": 1,
        "::group::Build": 2,
        "::add-mask::***": 2,
        "it is ***": 2,
        "::endgroup::": 2,
        "\x1b[0KTest it": 3,
        "testing": 3,
        "after it": 3,
    }
    assert sorted(record.stage for record in found if isinstance(record, StageComplete)) == [1, 2, 3]
