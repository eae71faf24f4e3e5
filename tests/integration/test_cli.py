"""``celery -A proj livelog …`` with a real worker: in a pipe, on a terminal, live and from the archive."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.nodes.process import free_port
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

_SECONDS = 60

HOSTILE = (
    "plain\n"
    "\x1b[31mred\x1b[0m\n"
    "clear\x1b[2J\x1b[H me\n"
    "clip\x1b]52;c;cm0gLXJm\x07board\n"
    "title\x1b]0;owned\x1b\\\n"
    "c1\x9b2J\x9d0;x\x9c\n"
    "\u202eright to left\n"
    "tab\tand ünïcode 日本\n"
)
#: All that may reach a terminal: printable characters, line ends and colours.
_ALLOWED = re.compile(r"(?:\x1b\[[0-9;:]*m|[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e])*")


class Terminal:
    """Runs ``livelog`` commands in the project's directory, to their end or in the background."""

    def __init__(self, project: Project, stack: ExitStack) -> None:
        self._project = project
        self._stack = stack

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "celery", "-A", "proj", "livelog", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*arguments), cwd=self._project.directory, capture_output=True, timeout=_SECONDS, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = self._stack.enter_context(
            subprocess.Popen(
                self.command(*arguments),
                cwd=self._project.directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        self._stack.callback(process.kill)
        return process

    def run_on_tty(self, *arguments: str) -> str:
        """Run a command whose stdout and stderr are a terminal; give what reached it."""
        master, slave = os.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST  # line ends as they were written
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        with subprocess.Popen(
            self.command(*arguments), cwd=self._project.directory, stdout=slave, stderr=slave, env=_with_terminal()
        ) as process:
            os.close(slave)
            shown = b"".join(iter(lambda: _read(master), b""))
            process.wait(_SECONDS)
        os.close(master)
        return shown.decode()


def _with_terminal() -> dict[str, str]:
    return {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # EIO: nobody has the other side open any more
        return b""


@pytest.fixture
def terminal(project: Project) -> Iterator[Terminal]:
    with ExitStack() as stack:
        yield Terminal(project, stack)


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_following_a_running_task(
    project: Project, worker: Callable[..., Worker], terminal: Terminal, valkey: Valkey
) -> None:
    """Lines show while the task runs, and the command ends as the task does; one that waits for its start, too."""
    task_id = "a-task-to-come"
    early = terminal.start("logs", task_id, "-f")
    worker()
    project.send("hold", "go", task_id=task_id)
    assert _line(early) == b"holding\n"
    late = terminal.start("logs", task_id, "--follow", "--timestamps")
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d holding\n", _line(late))
    so_far = terminal.run("logs", task_id)
    assert (so_far.stdout, so_far.stderr, so_far.returncode) == (b"holding\n", b"", 0)
    assert early.poll() is late.poll() is None
    valkey.client.rpush("go", 1)
    assert _line(early) == b"released\n"
    assert _line(late).endswith(b" released\n")
    assert [early.wait(_SECONDS), late.wait(_SECONDS)] == [0, 0]


def test_outcomes(project: Project, worker: Callable[..., Worker], terminal: Terminal) -> None:
    """The exit code is the task's, after the fact and at the end of following."""
    worker()
    failed = project.run("fail").id
    for arguments in (["logs", failed, "-f"], ["logs", failed]):
        result = terminal.run(*arguments)
        assert b"about to fail\n" in result.stdout
        assert result.stderr.endswith(b"FAILURE: RuntimeError: deliberate\n")
        assert result.returncode == 1

    retried = project.run("retry_once").id
    result = terminal.run("logs", retried, "-f", "--stream", "stdout")
    assert result.stdout == b"try 1\ntry 2\n"
    assert b"--- attempt 2 ---\n" in result.stderr
    assert result.returncode == 0
    only = terminal.run("logs", retried, "--attempt", "2", "--stream", "stdout")
    assert (only.stdout, only.stderr) == (b"try 2\n", b"")

    silent = project.run("silent").id
    result = terminal.run("logs", silent, "-f")
    assert (result.stdout, result.stderr, result.returncode) == (b"", b"", 0)

    unknown = terminal.run("logs", "no-such-task")
    assert (unknown.stdout, unknown.stderr) == (b"", b"Error: nothing is known of a task no-such-task\n")
    assert unknown.returncode == 1


def test_an_archived_log_in_a_pipe_and_on_a_terminal(
    project: Project, worker: Callable[..., Worker], terminal: Terminal, valkey: Valkey
) -> None:
    """A pipe gets what was printed, byte for byte; a terminal nothing that could act on it."""
    project.configure(livelog_archive_url=(project.directory / "archive").as_uri())
    worker()
    printed = HOSTILE.encode()
    task_id = project.run("write_bytes", printed.hex(), 7).id
    wait_for(lambda: not valkey.client.exists(f"task:logs:{task_id}"), what="the stream to be archived and deleted")

    piped = terminal.run("logs", task_id)
    assert (piped.stdout, piped.stderr, piped.returncode) == (printed, b"", 0)
    assert terminal.run("logs", task_id, "--tail", "2").stdout == b"".join(printed.splitlines(keepends=True)[-2:])
    assert terminal.run("logs", task_id, "--grep", "^t").stdout.count(b"\n") == 2

    records = [json.loads(text) for text in terminal.run("logs", task_id, "--json").stdout.splitlines()]
    assert [record["line"] + "\n" for record in records[:-1]] == HOSTILE.splitlines(keepends=True)
    assert {(record["task_id"], record["attempt"]) for record in records} == {(task_id, 1)}
    assert (records[-1]["type"], records[-1]["exit_code"]) == ("log_line_end", 0)

    shown = terminal.run_on_tty("logs", task_id)
    assert _ALLOWED.fullmatch(shown)
    assert "clear me\nclipboard\ntitle\nc1\n<U+202E>right to left\ntab\tand ünïcode 日本\n" in shown
    assert "\x1b[31mred\x1b[0m" in shown
    assert terminal.run_on_tty("logs", task_id, "--raw") == HOSTILE


def test_a_bar_on_a_terminal_and_in_a_pipe(project: Project, worker: Callable[..., Worker], terminal: Terminal) -> None:
    """Wherever it is followed, the finished bar is there once."""
    worker()
    task_id = project.send("progress_bar").id
    following = terminal.start("logs", task_id, "-f")
    shown = terminal.run_on_tty("logs", task_id, "-f")
    piped, _ = following.communicate(timeout=_SECONDS)
    assert piped == terminal.run("logs", task_id).stdout
    assert piped.count(b"Work: 100%") == 1
    assert shown.count("after the bar\n") == 1
    assert shown.count("Work: 100%") >= 1


def test_listing(project: Project, worker: Callable[..., Worker], terminal: Terminal, valkey: Valkey) -> None:
    """Running and finished tasks, newest first."""
    worker()
    printed = project.run("print_lines", 3).id
    failed = project.run("fail").id
    running = project.send("hold", "go").id
    rows = wait_for(lambda: _listed(terminal, running, failed, printed), what="all three tasks to be listed")
    assert [row["task_id"] for row in rows] == [running, failed, printed]
    assert [row["state"] for row in rows] == ["STARTED", "FAILURE", "SUCCESS"]
    assert [row["name"] for row in rows] == ["proj.hold", "proj.fail", "proj.print_lines"]
    assert rows[2]["lines"] == 3
    table = terminal.run("ls", "--state", "failure").stdout.decode().splitlines()
    assert len(table) == 2
    assert table[1].split()[:3] == [failed, "proj.fail", "FAILURE"]
    assert "proj.print_lines" in terminal.run_on_tty("ls", "--name", "*print*")
    valkey.client.rpush("go", 1)


def _listed(terminal: Terminal, *task_ids: str) -> list[dict[str, object]]:
    """The rows, once all the tasks are among them and only the first one still runs."""
    rows = [json.loads(text) for text in terminal.run("ls", "--json").stdout.splitlines()]
    ended = [row["task_id"] for row in rows if row["ended"]]
    complete = {row["task_id"] for row in rows} == set(task_ids) and set(ended) == set(task_ids[1:])
    return rows if complete else []


def test_leaving(project: Project, worker: Callable[..., Worker], terminal: Terminal, valkey: Valkey) -> None:
    """Ctrl-C, and a reader of our output that leaves: quiet, each with its own exit code; the task goes on."""
    worker()
    task = project.send("hold", "go")
    following = terminal.start("logs", task.id, "-f")
    assert _line(following) == b"holding\n"
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=_SECONDS) == (b"", b"")
    assert following.returncode == 130

    headed = terminal.start("logs", task.id, "-f")
    assert headed.stdout is not None
    assert headed.stderr is not None
    assert headed.stdout.readline() == b"holding\n"
    headed.stdout.close()
    valkey.client.rpush("go", 1)
    assert headed.wait(_SECONDS) == 141
    assert headed.stderr.read() == b""
    assert task.get(timeout=_SECONDS) is None


def test_the_script(project: Project) -> None:
    """`celery-livelog` has the same commands; `-b` goes where Celery's does."""
    command = [sys.executable, "-m", "celery_livelog.cli", "-A", "proj"]
    result = subprocess.run([*command, "ls"], cwd=project.directory, capture_output=True, check=True)
    assert result.stdout.startswith(b"TASK ")
    elsewhere = f"redis://127.0.0.1:{free_port()}/0"
    result = subprocess.run(
        [*command, "-b", elsewhere, "logs", "unknown"], cwd=project.directory, capture_output=True, check=False
    )
    assert result.returncode == 1
    assert b"Redis does not answer" in result.stderr


def test_wrong_settings_and_an_absent_redis(project: Project, terminal: Terminal) -> None:
    """One line each, and no traceback."""
    project.configure(livelog_redis_url=f"redis://127.0.0.1:{free_port()}/0")
    result = terminal.run("logs", "unknown")
    assert (result.stdout, result.returncode) == (b"", 1)
    assert b"Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    project.configure(livelog_maxlin=1)
    result = terminal.run("ls")
    assert result.returncode == 1
    assert result.stderr.startswith(b"Error: livelog_maxlin is not a setting of celery-livelog; did you mean")
