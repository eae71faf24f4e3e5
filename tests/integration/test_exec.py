"""``celery-livelog exec``: real programs, what they print, how they end, and what becomes of all that is killed."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from celery_livelog import environment
from celery_livelog.attempts import Attempt
from celery_livelog.reader import Reader
from celery_livelog.records import End, Line, Record
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

_SECONDS = 60
#: Where nothing can be stored: a program runs there without a log, and with our own descriptors.
NOWHERE = Path("/proc")


@dataclass
class Log:
    """What can be read of a program."""

    attempts: list[Attempt]
    records: list[Record]

    def lines(self, stream: str = "stdout") -> list[str]:
        return [record.line for record in self.records if isinstance(record, Line) and record.stream == stream]

    @property
    def end(self) -> End:
        return next(record for record in self.records if isinstance(record, End))


class Shell:
    """Where ``celery-livelog exec`` is typed: an environment that says where logs go."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        self.directory = directory
        self.settings = {"LIVELOG_DIR": str(directory / "livelog")}
        if redis_url:
            self.settings["LIVELOG_REDIS_URL"] = redis_url
        self.started: list[subprocess.Popen[bytes]] = []

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "celery_livelog.cli", "exec", *arguments]

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any) -> Any:
        given = {**os.environ, **self.settings} if environment is None else {**environment, **self.settings}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
        options = {"cwd": self.directory, **pipes, **options}
        process = subprocess.Popen(self.command(*arguments), env=given, **options)
        self.started.append(process)
        return process

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return finish(self.start(*arguments, **options))

    def log(self, task_id: str) -> Log:
        """The log of a program, as soon as it is archived."""

        async def read(reader: Reader) -> Log:
            records = [record async for batch in reader.log(task_id) for record in batch.records]
            return Log(await reader.attempts(task_id), records)

        wait_for(lambda: self._ask(_over(task_id)), what=f"the end of {task_id}")
        return self._ask(read)

    def spooled(self) -> list[Path]:
        """What is not yet where it belongs."""
        return [*(self.directory / "livelog" / "spool").glob("*")]

    def _ask(self, question: Any) -> Any:
        async def asked() -> Any:
            reader = Reader(environment.settings_of(self.settings))
            try:
                return await question(reader)
            finally:
                await reader.close()

        return asyncio.run(asked())


def _over(task_id: str) -> Any:
    async def over(reader: Reader) -> bool:
        attempts = await reader.attempts(task_id)
        return bool(attempts) and all(attempt.ended and (attempt.archive or not attempt.lines) for attempt in attempts)

    return over


def finish(process: subprocess.Popen[bytes]) -> subprocess.CompletedProcess[bytes]:
    out, err = process.communicate(timeout=_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def shell(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("exec"), f"{valkey_server.url[:-2]}/8")
    yield shell
    for process in shell.started:
        process.kill()
        process.wait(_SECONDS)
    wait_for(lambda: not shell.spooled(), what="all that is shipped")


def python(code: str) -> list[str]:
    return ["--", sys.executable, "-c", code]


def test_what_is_shown_and_what_is_logged(shell: Shell) -> None:
    """The console has each stream byte by byte, the log the same without secrets; a run has the program as a task."""
    code = r"""if True:
        import os, sys
        for n in range(20_000):
            print("line", n)
        sys.stdout.flush()
        os.write(1, bytes(range(256)) + b"\n\xff\xfe no end")
        os.write(2, b"to stderr\n" * 100)
        os.write(2, os.environ["CELERY_LIVELOG_TASK_ID"].encode() + b" " + os.environ["DEPLOY_TOKEN"].encode() + b"\n")
        sys.exit(3)
    """
    given = {**os.environ, "DEPLOY_TOKEN": "hunter2hunter2"}
    options = ["--id", "whole", "--name", "build", "--run", "nightly", "--account", "acme", "--site", "north"]
    done = shell.run(*options, *python(code), "--password=hunter2hunter2", environment=given)
    assert done.returncode == 3
    printed = b"".join(b"line %d\n" % n for n in range(20_000)) + bytes(range(256)) + b"\n\xff\xfe no end"
    assert done.stdout == printed
    assert done.stderr == b"to stderr\n" * 100 + b"whole hunter2hunter2\n"
    log = shell.log("whole")
    assert log.lines()[:20_000] == [f"line {n}" for n in range(20_000)]
    assert log.lines()[-1] == "\\xff\\xfe no end"
    assert log.lines("stderr") == ["to stderr"] * 100 + ["whole ***"]
    assert (log.end.state, log.end.exit_code) == ("FAILURE", 3)
    (attempt,) = log.attempts
    assert (attempt.name, attempt.run_id, attempt.account, attempt.site) == ("build", "nightly", "acme", "north")
    assert attempt.args.endswith("--password=***")
    assert shell.spooled() == []


def test_many_at_once(shell: Shell) -> None:
    """Two with one id, one of which is killed; one that is not there; one without input, output, environment."""
    closed = {"stdin": None, "preexec_fn": lambda: os.closerange(0, 3), "stdout": None, "stderr": None}
    running = {
        "first": shell.start("--id", "twice", "--", "sh", "-c", "echo one; kill -9 $$"),
        "second": shell.start("--id", "twice", "--", "sh", "-c", "echo two; exit 7"),
        "missing": shell.start("--id", "missing", "--", "no-such-program", "x"),
        "cron": shell.start("--id", "cron", "--", "sh", "-c", "pwd; cat; echo $HOME", environment={}, **closed),
    }
    done = {name: finish(process) for name, process in running.items()}
    codes = {name: process.returncode for name, process in done.items()}
    assert codes == {"first": 137, "second": 7, "missing": 127, "cron": 0}, done
    twice = shell.log("twice")
    ended, killed = sorted(twice.attempts, key=lambda attempt: attempt.exit_code or 0)
    assert (ended.exit_code, ended.reason) == (7, "the program left with exit code 7")
    assert killed.exit_code == 137
    assert killed.reason.startswith("killed by signal 9 (SIGKILL)")
    assert sorted(twice.lines()) == ["one", "two"]
    assert done["missing"].stderr.startswith(b"celery-livelog: no-such-program: command not found\n")
    missing = shell.log("missing").attempts[0]
    assert (missing.state, missing.exit_code) == ("FAILURE", 127)
    assert missing.reason == "no-such-program: command not found"
    assert shell.log("cron").lines() == [str(shell.directory), ""]


def test_without_a_redis_the_archive_is_complete(shell: Shell, tmp_path: Path) -> None:
    """What else is to be told is left to the shipper, and said."""
    alone = Shell(tmp_path, "redis://127.0.0.1:1/0")
    done = alone.run("--id", "alone", "--wait", "0", "--", "echo", "archived")
    assert (done.returncode, done.stdout) == (0, b"archived\n")
    assert b"another process goes on" in done.stderr
    alone.settings["LIVELOG_REDIS_URL"] = shell.settings["LIVELOG_REDIS_URL"]  # to read with
    assert alone.log("alone").lines() == ["archived"]
    (spooled,) = alone.spooled()
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and process.info["cmdline"][-1] == str(spooled):
            process.kill()


def test_what_is_sent_to_it_reaches_the_program_once(shell: Shell) -> None:
    code = r"""if True:
        import signal, sys
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        wanted = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM"]
        signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in wanted])
        print("ready", flush=True)
        got = None
        while got != signal.SIGTERM:
            got = signal.sigwait([getattr(signal, name) for name in wanted])
            print(signal.Signals(got).name, flush=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        print(signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    """
    process = Shell(NOWHERE, "").start("--id", "signals", *python(code), cwd=shell.directory)
    assert process.stdout.readline() == b"ready\n"
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        process.send_signal(number)
        assert process.stdout.readline() == f"{number.name}\n".encode()
    done = finish(process)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stdout == b"True set()\n"
    assert b"signals runs without a log: the spool directory /proc/livelog/spool cannot be used" in done.stderr


def test_what_is_ignored_stays_so(shell: Shell) -> None:
    """As ``nohup`` has it: the terminal may go."""
    code = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, flush=True); signal.pause()"
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = Shell(NOWHERE, "").start("--id", "nohup", *python(code), cwd=shell.directory, **ignore)
    assert process.stdout.readline() == b"True\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert finish(process).returncode == 128 + signal.SIGTERM


def test_when_exec_is_killed_the_program_goes_on_and_so_does_its_log(shell: Shell) -> None:
    """What is said then is what is known: not how the program ended."""
    code = r"""if True:
        import os, sys
        print("before", flush=True)
        open("went-on", "x")
        while os.path.exists("went-on"):
            os.sched_yield()
        print("after", flush=True)
    """
    process = shell.start("--id", "orphan", *python(code))
    assert process.stdout.readline() == b"before\n"
    process.kill()
    finish(process)  # nobody else holds its console
    (shell.directory / "went-on").unlink()
    log = shell.log("orphan")
    assert log.lines() == ["before", "after"]
    assert (log.end.state, log.end.exit_code) == ("LOST", 137)
    assert "celery-livelog exec was killed" in log.end.reason


def test_what_a_program_leaves_behind_is_not_waited_for(shell: Shell) -> None:
    """Nor does what it prints stay anywhere."""
    (shell.directory / "stays").touch()
    left = "(while [ -e stays ]; do echo noise; sleep 0.05; done) & echo done"
    done = shell.run("--id", "daemon", "--wait", "0", "--", "sh", "-c", left)
    assert done.returncode == 0
    assert b"done\n" in done.stdout
    log = shell.log("daemon")
    assert "done" in log.lines()
    assert log.end.exit_code == 0
    (shell.directory / "stays").unlink()
    wait_for(lambda: not shell.spooled(), what="all that was left behind")


class Typing:
    """A terminal at which somebody sits, and what runs there."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], size: tuple[int, int]) -> None:
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.execve(command[0], list(command), dict(environment))
        self.resize(*size)
        self.seen = b""

    def resize(self, lines: int, columns: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def wait_for(self, text: bytes) -> None:
        end = time.monotonic() + _SECONDS
        while text not in self.seen and self._read(end - time.monotonic()):
            pass
        assert text in self.seen, self.seen

    def wait(self) -> int:
        while self._read(_SECONDS):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._fd], [], [], max(0, seconds))[0]:
            return False
        try:
            self.seen += os.read(self._fd, 65536)
        except OSError:
            return False
        return True


_COUNT_INTERRUPTS = r"""if True:
    import json, os, signal, sys, time
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    signal.signal(signal.SIGWINCH, lambda *_: print("size", *os.get_terminal_size(), flush=True))
    print(json.dumps([os.isatty(fd) for fd in (0, 1, 2)]), "ready", flush=True)
    print("got", input(), flush=True)
    while not seen:
        time.sleep(0.01)
    time.sleep(0.2)
    print("interrupted", len(seen), flush=True)
"""


def test_a_terminal_of_its_own(shell: Shell) -> None:
    """The program has colours, size, input; what is typed and Ctrl-C reach it once; our terminal is as it was."""
    command = shell.command("--id", "pty", "--pty", *python(_COUNT_INTERRUPTS))
    typing = Typing(command, {**os.environ, **shell.settings}, (33, 77))
    typing.wait_for(b"[true, true, true] ready")
    typing.resize(44, 88)
    typing.wait_for(b"size 88 44\r\n")
    typing.type(b"hello\r")
    typing.wait_for(b"got hello")
    typing.type(b"\x03")
    typing.wait_for(b"interrupted 1")
    assert typing.wait() == 0
    assert "interrupted 1" in shell.log("pty").lines()[-1]


def test_ctrl_c_at_a_terminal_reaches_the_program_once(shell: Shell) -> None:
    command = shell.command("--id", "plain", *python(_COUNT_INTERRUPTS))
    typing = Typing(command, {**os.environ, **Shell(NOWHERE, "").settings}, (33, 77))
    typing.wait_for(b"[true, true, true] ready")
    typing.type(b"hello\r")
    typing.wait_for(b"got hello")
    typing.type(b"\x03")
    typing.wait_for(b"interrupted 1")
    assert typing.wait() == 0
