"""How every way in which a task can end is told: its state, exit code and reason, once, by whoever can tell."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_livelog.records import End
from celery_livelog.recovery import Recovery
from tests.integration.test_shipping import shippers
from tests.nodes import logs
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

StartWorker = Callable[..., Worker]


def ends(project: Project, task_id: str, count: int = 1) -> list[tuple[str, int, str]]:
    """The ends of a task's attempts, once all are archived."""
    found = logs.archived(project, task_id, count)
    return [(end.state, end.exit_code, end.reason) for end in found if isinstance(end, End)]


#: Task, arguments, options of its message, and the end of each of its attempts. In reasons, … is for anything.
OUTCOMES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], list[tuple[str, int, str]]]] = {
    "success": ("print_lines", (), {}, [("SUCCESS", 0, "")]),
    "failure": ("fail", (), {}, [("FAILURE", 1, "RuntimeError: deliberate")]),
    "retry": ("retry_once", (), {}, [("RETRY", 1, "Retry in 0s"), ("SUCCESS", 0, "")]),
    "ignore": ("ignore", (), {}, [("IGNORED", 0, "")]),
    "reject": ("reject", (), {}, [("REJECTED", 1, "deliberate")]),
    "requeue": (
        "reject_once",
        (),
        {},
        [("REJECTED", 1, "not now; the task is to be delivered again"), ("SUCCESS", 0, "")],
    ),
    "replace": ("replace", (), {}, [("IGNORED", 0, "…"), ("SUCCESS", 0, "")]),
    "soft limit": ("take_long", (), {"soft_time_limit": 1}, [("FAILURE", 1, "soft time limit of 1 s exceeded: …")]),
    "hard limit": ("take_long", (), {"time_limit": 1}, [("FAILURE", 143, "hard time limit of 1… s exceeded")]),
    "sys.exit": ("exit_politely", (3,), {}, [("FAILURE", 1, "the task left its process: sys.exit(3)")]),
    "os._exit": ("exit_process", (3,), {}, [("FAILURE", 1, "the process left with exit code 3")]),
    "SIGKILL": (
        "kill_process",
        (),
        {},
        [("FAILURE", 137, "killed by signal 9 (SIGKILL): likely out of memory…")],
    ),
    "SIGSEGV": ("kill_process", (int(signal.SIGSEGV),), {}, [("FAILURE", 139, "killed by signal 11 (SIGSEGV)")]),
    "SIGTERM": ("kill_process", (int(signal.SIGTERM),), {}, [("…", 143, "…terminated by signal 15 (SIGTERM)")]),
    "SIGKILL, requeued": (
        "kill_process_once",
        (),
        {},
        [("REJECTED", 137, "killed by signal 9 (SIGKILL)…; the task is to be delivered again"), ("SUCCESS", 0, "")],
    ),
    "expired": ("print_lines", (), {"expires": -10}, [("REVOKED", 1, "expired before it began")]),
    "silent failure": ("print_lines", ("not a number",), {}, [("FAILURE", 1, "TypeError: …")]),
}


def matches(found: tuple[str, int, str], expected: tuple[str, int, str]) -> bool:
    def fits(text: str, form: str) -> bool:
        head, anything, tail = form.partition("…")
        return text.startswith(head) and text.endswith(tail) if anything else text == form

    return fits(found[0], expected[0]) and found[1] == expected[1] and fits(found[2], expected[2])


def test_every_outcome(project: Project, worker: StartWorker) -> None:
    """All of them on one worker, at once: each attempt ends once, in the right words."""
    worker(concurrency=4)
    sent = {name: project.send(task, *args, **options).id for name, (task, args, options, _) in OUTCOMES.items()}
    wrong = {}
    for name, task_id in sent.items():
        expected = OUTCOMES[name][3]
        found = ends(project, task_id, len(expected))
        if len(found) != len(expected) or not all(map(matches, found, expected)):
            wrong[name] = (found, expected)
    assert not wrong, repr(wrong)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_revoked_while_it_runs(project: Project, worker: StartWorker, valkey: Valkey, number: signal.Signals) -> None:
    worker(concurrency=1)
    task = project.send("take_long", "begun")
    valkey.client.blpop(["begun"], timeout=30)
    project.app.control.revoke(task.id, terminate=True, signal=number.name)
    expected = ("REVOKED", 128 + number, f"revoked: terminated by signal {int(number)} ({number.name})")
    assert ends(project, task.id) == [expected]


def test_revoked_before_it_begins(project: Project, worker: StartWorker) -> None:
    """There is a log, of one line: who waits for it learns that nothing comes."""
    worker(concurrency=1)
    task = project.send("print_lines", countdown=2)
    project.app.control.revoke(task.id)
    (only,) = logs.records(project, task.id, follow=True)
    assert isinstance(only, End)
    assert (only.state, only.exit_code, only.reason) == ("REVOKED", 1, "revoked before it began")


def test_last_task_of_a_child(project: Project, worker: StartWorker) -> None:
    """A child that is replaced after a task, as by ``worker_max_tasks_per_child``, is no loss."""
    worker(concurrency=1, args=["--max-tasks-per-child", "1"])
    sent = [project.send("print_lines").id for _ in range(2)]
    assert [ends(project, task_id) for task_id in sent] == [[("SUCCESS", 0, "")]] * 2


@pytest.mark.parametrize(
    ("number", "timeout", "state", "reason"),
    [
        (signal.SIGTERM, 0, "SUCCESS", ""),
        (signal.SIGQUIT, 0, "ABORTED", "the worker was shut down before the task was done"),
        (signal.SIGQUIT, 1, "ABORTED", "the worker was shut down before the task was done"),
    ],
    ids=["warm", "cold", "soft"],
)
def test_shutdown(
    project: Project,
    worker: StartWorker,
    valkey: Valkey,
    number: signal.Signals,
    timeout: float,
    state: str,
    reason: str,
) -> None:
    """A warm one lets the task end, a cold one does not, a soft one only if that is soon."""
    project.configure(worker_soft_shutdown_timeout=timeout)
    running = worker(concurrency=1)
    task = project.send("hold", "go")
    wait_for(lambda: logs.lines(logs.records(project, task.id)), what="the task's first line")
    running.send(number)
    if number == signal.SIGTERM:
        running.wait_for_output("Warm shutdown")
        valkey.client.rpush("go", 1)
    running.wait()
    ((found, _, why),) = ends(project, task.id)
    assert (found, why) == (state, reason)


def test_worker_killed(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """The main process dies, and its children with it."""
    running = worker(concurrency=1)
    task = project.send("take_long", "begun")
    valkey.client.blpop(["begun"], timeout=30)
    running.kill()
    ((state, exit_code, reason),) = ends(project, task.id)
    assert (state, exit_code) == ("LOST", 137)
    assert reason.startswith("worker lost")


def test_child_killed_by_another(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """As by the kernel: the end is there long before Celery notices, and tells what memory the process had."""
    worker(concurrency=2)
    task = project.send("take_long", "begun")
    _, pid = valkey.client.blpop(["begun"], timeout=30)
    wait_for(lambda: logs.records(project, task.id), what="the task's first line")
    os.kill(int(pid), signal.SIGKILL)
    end = logs.end(logs.records(project, task.id, follow=True))
    assert end.exit_code == 137
    told = r"killed by signal 9 \(SIGKILL\): likely out of memory, it had \d+ MiB when last seen"
    assert re.fullmatch(told, end.reason)


def test_one_id_on_two_workers(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """Two attempts at once, one of which is killed with its worker: each has its lines and its end."""
    first, _ = (worker(concurrency=1, args=["--queues", queue]) for queue in ("one", "two"))
    for queue in ("one", "two"):
        project.send("hold", "go", task_id="twice", queue=queue)
    wait_for(lambda: len(logs.attempts(project, "twice")) == 2)
    (_,) = shippers(first)
    first.kill()
    valkey.client.rpush("go", 1, 1)
    found = sorted((state, exit_code) for state, exit_code, _ in ends(project, "twice", 2))
    assert found == [("LOST", 137), ("SUCCESS", 0)]


def test_a_host_that_comes_back(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """Worker and shipper are gone: the log is shown as lost, can be archived as far as it was sent, and is then
    replaced by what the next worker on the host finds in the journals."""
    running = worker(concurrency=1)
    task = project.send("print_and_take_long", "begun", 3000)
    valkey.client.blpop(["begun"], timeout=30)
    wait_for(lambda: len(logs.lines(logs.records(project, task.id))) == 3001, what="all lines in the stream")
    (shipper,) = shippers(running)
    shipper.suspend()  # else it would begin to tidy up between the two kills
    running.kill()
    shipper.kill()
    (lease,) = valkey.client.keys("task:logs::lease:*")
    valkey.client.delete(lease)  # as a minute later

    (lost,) = logs.attempts(project, task.id)
    assert (lost.state, lost.exit_code, lost.ended) == ("LOST", 137, "")
    assert logs.end(logs.records(project, task.id)).reason.startswith("worker lost")

    recovered = logs.ask(project, Recovery(project.settings).recover_all)
    assert [(attempt.task_id, attempt.lines) for attempt in recovered] == [(task.id, 3001)]
    valkey.client.delete(f"task:logs:{task.id}")
    found = logs.records(project, task.id)
    assert (len(logs.lines(found)), logs.end(found).state) == (3001, "LOST")
    assert logs.ask(project, Recovery(project.settings).recover_all) == []

    (abandoned,) = Path(project.settings.spool_dir).iterdir()
    os.utime(abandoned, (0, 0))  # as if it had been left for longer
    project.app.control.purge()
    worker(concurrency=1)
    wait_for(lambda: not abandoned.exists(), what="the journals to be shipped")
    found = logs.archived(project, task.id)
    assert (len(logs.lines(found)), logs.end(found).state) == (3001, "LOST")
    assert logs.end(found).reason.startswith("worker lost: process")
