"""What a task writes, in every way a task can, is in its log: once, whole, in order, and in no other task's."""

from __future__ import annotations

import re
from collections.abc import Callable

import psutil
import pytest

from celery_livelog.records import Line
from tests.nodes import logs
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

StartWorker = Callable[..., Worker]

POOLS = ("prefork", "solo", "threads", "gevent", "eventlet")

#: What each task of the project writes, as (stream, line).
WRITTEN: dict[str, list[tuple[str, str]]] = {
    "print_lines": [("stdout", "line 1"), ("stdout", "line 2"), ("stdout", "line 3")],
    "write_partial": [("stdout", "one whole line"), ("stdout", "two halves"), ("stdout", "no newline")],
    "write_stderr": [("stdout", "to stdout"), ("stderr", "to stderr")],
    "log": [("log", "from the root logger"), ("log", "from a library"), ("log", "from the task logger")],
    "print_in_threads": [("stdout", "from a thread"), ("stdout", "from an executor")],
    "print_in_asyncio": [
        ("stdout", "from an asyncio task"),
        ("stdout", "from a coroutine"),
        ("stdout", "from asyncio's thread"),
    ],
}
#: What only a process that runs one task at a time can tell apart.
WRITTEN_TO_DESCRIPTORS: dict[str, list[tuple[str, str]]] = {
    "write_descriptors": [("stdout", "raw one"), ("stderr", "raw two")],
    "run_subprocess": [("stdout", "child out"), ("stderr", "child err")],
    "run_subprocess_to_stdout": [("stdout", "before the child"), ("stdout", "child"), ("stdout", "after the child")],
    "run_system": [("stdout", "from a shell")],
}


def written(project: Project, task_id: str) -> list[tuple[str, str]]:
    """The lines of a finished task's log with their streams."""
    return [(line.stream, line.line) for line in logs.archived(project, task_id) if isinstance(line, Line)]


@pytest.mark.parametrize("pool", POOLS)
def test_every_way_of_writing(project: Project, worker: StartWorker, pool: str) -> None:
    """Prints, halves of lines, stderr, logging, threads, executors and asyncio: each once and in order."""
    worker(pool=pool)
    expected = {**WRITTEN, **(WRITTEN_TO_DESCRIPTORS if pool in ("prefork", "solo") else {})}
    sent = {task: project.send(task).id for task in expected}
    assert {task: written(project, task_id) for task, task_id in sent.items()} == expected


@pytest.mark.parametrize("pool", POOLS)
def test_two_tasks_at_once(project: Project, worker: StartWorker, pool: str) -> None:
    """Tasks that write in turn, each in four ways, have their own lines only, and all of them."""
    for _ in range(2 if pool == "solo" else 1):
        worker(pool=pool, args=["--prefetch-multiplier", "1"])
    rounds = 20
    project.app.connection_for_write().default_channel.client.rpush("turn-of-a", 0)
    sent = {me: project.send("speak_in_turn", me, other, rounds).id for me, other in (("a", "b"), ("b", "a"))}
    for me, task_id in sent.items():
        ways = ("print", "stderr", "log", "thread")
        expected = [f"{me} {way} {number}" for number in range(1, rounds + 1) for way in ways]
        assert [line for _, line in written(project, task_id)] == expected


@pytest.mark.parametrize(
    ("settings", "args"),
    [
        ({}, []),
        ({"worker_redirect_stdouts": False}, []),
        ({"worker_hijack_root_logger": False}, []),
        ({"test_setup_logging": True}, []),
        ({}, ["--logfile", "worker.out"]),
    ],
    ids=["as it comes", "not redirected", "not hijacked", "own logging", "logfile"],
)
def test_no_line_twice(project: Project, worker: StartWorker, settings: dict[str, bool], args: list[str]) -> None:
    """However Celery's or the user's logging is set up, what is written is in the log once."""
    project.configure(**settings)
    worker(args=args, ready=None if args else " ready.")
    tasks = ("log", "write_stderr", "write_descriptors", "run_subprocess_to_stdout", "log_with_own_handler")
    sent = {task: project.send(task).id for task in tasks}
    for task, task_id in sent.items():
        found = [line for _, line in written(project, task_id)]
        assert sorted(set(found)) == sorted(found), task
        assert found, task


def test_log_records_are_told_with_level_and_logger(project: Project, worker: StartWorker) -> None:
    """A log line carries who said it and how loudly; an exception's traceback is a part of it."""
    worker()
    sent = [project.send(task).id for task in ("log", "log_traceback", "warn")]
    found = [line for task_id in sent for line in logs.archived(project, task_id) if isinstance(line, Line)]
    said = [(line.level, line.logger, line.line) for line in found]
    assert said[:3] == [
        ("WARNING", "root", "from the root logger"),
        ("ERROR", "some.library", "from a library"),
        ("INFO", "proj", "from the task logger"),
    ]
    assert ("ERROR", "proj", "ValueError: deliberate") in said
    assert any(level == "WARNING" and "careful with that" in line for level, _, line in said)


def test_progress_bar_leaves_its_last_state(project: Project, worker: StartWorker) -> None:
    """A bar that was drawn a hundred times is one line of the archive."""
    worker()
    before, bar, after = (line for _, line in written(project, project.send("progress_bar", 100).id))
    assert (before, after) == ("before the bar", "after the bar")
    assert re.match(r"Work: 100%\|█+\| 100/100 ", bar)


def test_any_bytes(project: Project, worker: StartWorker) -> None:
    """What is no UTF-8 is shown as bytes; a character that came in two writes is whole."""
    worker()
    data = "naïve \N{FIRE}\n".encode() + b"\xff\xfe\x00end\n"
    task_id = project.send("write_bytes", data.hex(), len(data)).id
    assert written(project, task_id) == [("stdout", "naïve \N{FIRE}"), ("stdout", "\\xff\\xfe\x00end")]


def test_overlong_line(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """A line of 200,000 characters is whole in the archive, and in the stream in pieces that say so."""
    worker()
    task_id = project.send("long_line", 200_000).id
    assert written(project, task_id) == [("stdout", "x" * 200_000)]
    entries = [fields for _, fields in valkey.client.xrange(f"task:logs:{task_id}") if fields["type"] == "log_line"]
    assert [(entry["n"], entry.get("piece", "0"), entry.get("more")) for entry in entries] == [
        ("1", "0", "true"), ("1", "1", "true"), ("1", "2", "true"), ("1", "3", None),
    ]  # fmt: skip
    assert "".join(entry["line"] for entry in entries) == "x" * 200_000


def test_c_code_that_holds_the_gil(project: Project, worker: StartWorker) -> None:
    """8 MB written to descriptor 1 without letting the interpreter go cannot stop the task, and all of it is there."""
    worker()
    found = written(project, project.send("noisy_c", 8).id)
    assert len(found) == 8 << 14
    assert [int(line) for _, line in found] == list(range(8 << 14))


def test_process_left_behind(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """A process that outlives its task is not killed, and what it prints is in no later task's log."""
    running = worker(concurrency=1)
    left = project.send("leave_orphan", "go")
    orphan = left.get(timeout=30)
    later = project.send("hold", "later")
    wait_for(lambda: logs.records(project, later.id), what="the next task's first line")
    assert psutil.pid_exists(orphan)
    valkey.client.rpush("go", 1)
    wait_for(lambda: "orphan after" in running.output(), what="what the process left behind prints, on the console")
    valkey.client.rpush("later", 1)
    assert written(project, later.id) == [("stdout", "holding"), ("stdout", "released")]


def test_nested_and_excluded_tasks(project: Project, worker: StartWorker) -> None:
    """A task applied within another has a log of its own; one with ``livelog=False`` or an excluded name has none."""
    project.configure(livelog_exclude=["proj.write_*"])
    worker()
    outer = project.run("nested")
    assert written(project, outer.id) == [("stdout", "outer before"), ("stdout", "outer after")]
    assert written(project, outer.result) == [("stdout", "inner 1"), ("stdout", "inner 2")]
    for task in ("write_stderr", "unlogged"):
        assert not logs.attempts(project, project.run(task).id)


def test_console_shows_what_it_showed(project: Project, worker: StartWorker) -> None:
    """With livelog on, the worker's own output is what it was without; with ``livelog_tee`` off a task adds nothing."""
    tasks = ("print_lines", "write_stderr", "log", "log_traceback", "write_descriptors", "run_subprocess")

    def shown(name: str, **settings: bool) -> list[str]:
        project.configure(**settings)
        running = worker(name=name, concurrency=1)
        for task in tasks:
            project.run(task)
        running.stop()
        return sorted(map(_without_times, running.output().split(" ready.", 1)[1].splitlines()))

    off = shown("off", livelog=False)
    assert shown("on", livelog=True) == off
    quiet = shown("quiet", livelog=True, livelog_tee=False)
    assert "raw one" in off
    assert [line for line in quiet if any(word in line for word in ("raw", "child", "line 1", "from the"))] == []


def _without_times(line: str) -> str:
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+", "TIME", line)
    line = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", line)
    line = re.sub(r"in [0-9.e-]+s", "in SECONDS", line)
    return re.sub(r'/[^ "]*', "PATH", line)
