"""Every way in which a program that runs tasks can start has livelog on, or off, as the app says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.nodes import logs
from tests.nodes.project import Project
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

_IN_PROCESS = {
    "eager": """
        import celery_livelog
        from proj import app, print_lines
        celery_livelog.install(app)
        celery_livelog.install(app)
        app.conf.task_always_eager = True
        print_lines.apply_async(args=(2,), task_id="mine")
        """,
    "start_worker": """
        import celery_livelog
        from celery.contrib.testing.worker import start_worker
        from proj import app, print_lines
        celery_livelog.install(app)
        with start_worker(app, perform_ping_check=False, pool="solo"):
            print_lines.apply_async(args=(2,), task_id="mine").get(timeout=30, disable_sync_subtasks=False)
        """,
    "app.Worker": """
        import threading
        import celery_livelog
        from celery.worker import state
        from proj import app, print_lines
        celery_livelog.install()
        def shut_down():
            print_lines.apply_async(args=(2,), task_id="mine").get(timeout=30, disable_sync_subtasks=False)
            state.should_stop = 0
        threading.Thread(target=shut_down).start()
        app.Worker(pool="threads", concurrency=1).start()
        """,
    "worker_main": """
        import threading
        from proj import app, print_lines
        def shut_down():
            print_lines.apply_async(args=(2,), task_id="mine").get(timeout=30, disable_sync_subtasks=False)
            app.control.shutdown()  # not a signal: its message would be in the log of a task that is about to end
        threading.Thread(target=shut_down).start()
        app.worker_main(["worker", "--pool", "solo"])
        """,
}


@pytest.mark.parametrize("shipper", ["process", "thread"])
@pytest.mark.parametrize("start", _IN_PROCESS)
def test_programs_that_run_tasks_themselves(project: Project, start: str, shipper: str) -> None:
    """Eager tasks, workers started by a program and by ``worker_main`` are logged like those of ``celery worker``."""
    project.configure(livelog_shipper=shipper)
    program = "\n".join(line.removeprefix("        ") for line in _IN_PROCESS[start].splitlines())
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project.directory, capture_output=True, text=True, timeout=60, check=False
    )
    found = logs.archived(project, "mine")
    assert logs.lines(found) == ["line 1", "line 2"]
    assert logs.end(found).state == "SUCCESS"
    assert "Traceback" not in done.stderr
    spool = Path(project.settings.spool_dir)
    wait_for(lambda: not any(spool.iterdir()), what="an empty spool")


def test_turning_it_off_again(project: Project) -> None:
    """`disconnect` undoes it all: streams, log handlers, threads that carry an attempt, descriptors and the shipper."""
    program = """
import logging, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
import celery_livelog
from celery_livelog.signals import disconnect
from proj import app, print_lines, write_descriptors

def now():
    return (sys.stdout, sys.stderr, list(logging.getLogger().handlers), threading.Thread.start,
            ThreadPoolExecutor.submit, os.fstat(1).st_ino, os.fstat(2).st_ino, threading.active_count())

app.conf.task_always_eager = True
before = now()
celery_livelog.install(app)
print_lines.delay(2)
write_descriptors.delay()
assert now() != before
disconnect()
disconnect()
assert now() == before, (before, now())
print("as before")
print_lines.delay(1)
"""
    project.configure(livelog_shipper="thread")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project.directory, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stderr, done.stdout.splitlines()[-2:]) == ("raw two\n", ["as before", "line 1"])


def test_worker_with_threads_and_a_thread_shipper(project: Project, worker: Callable[..., Worker]) -> None:
    """A shipper in a thread of the worker's main process does the same work, in no process of its own."""
    project.configure(livelog_shipper="thread")
    running = worker(concurrency=1)
    found = logs.archived(project, project.send("run_subprocess").id)
    assert logs.lines(found) == ["child out", "child err"]
    family = psutil.Process(running.pid).children(recursive=True)
    assert not any("celery_livelog.shipper" in process.cmdline() for process in family)
    assert running.stop() == 0
    assert not any(Path(project.settings.spool_dir).iterdir())
