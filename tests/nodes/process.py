"""One process that a test has started: its output in a file, ended by its own id with all that it left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.nodes.waiting import wait_for

_OUTPUT_IN_REPORT = 20_000


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalProcess:
    """A command, run in a session of its own so that a Ctrl-C at the tests does not reach it first."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        directory: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the process; `start` runs it in `directory`, with its output in ``<name>.log`` there.

        :param env: variables besides those of the tests' own environment.
        """
        self.name = name
        self.command = [os.fspath(part) for part in command]
        self.directory = directory
        self.env = {**os.environ, **(env or {})}
        self.log = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._begin = 0
        self._family: set[psutil.Process] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {f'pid={self.pid}' if self.running else 'not running'}>"

    def start(self) -> None:
        """Run the command, at first or once more; its output is appended."""
        with self.log.open("ab") as log:
            self._begin = log.tell()
            self.process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def output(self) -> str:
        """All that it has written to stdout and stderr, in order."""
        return self.log.read_text(errors="backslashreplace") if self.log.exists() else ""

    def wait_for_output(self, text: str, timeout: float = 30.0) -> None:
        """Wait until it has written `text` since it was started; fail at once when it ends without."""
        wait_for(lambda: self._has_written(text) or not self.running, timeout, f"{text!r} from {self!r}")
        assert self._has_written(text), f"{self!r} ended without {text!r}:\n{self.report()}"

    def send(self, number: signal.Signals | int) -> None:
        """Send a signal to this process alone."""
        self._remember_family()
        os.kill(self.pid, number)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end, at most `timeout` seconds; return the exit code, below 0 for a signal."""
        assert self.process is not None, f"{self.name} was never started"
        return self.process.wait(timeout)

    def stop(self, timeout: float = 30.0) -> int:
        """Ask it to end, as a service manager does, and wait; after `timeout` seconds kill it."""
        if self.running:
            self.send(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self!r} did not end within {timeout:g} s of SIGTERM") from None

    def kill(self) -> int:
        """End it with SIGKILL, this process alone."""
        if self.running:
            self.send(signal.SIGKILL)
        return self.wait()

    def end(self) -> None:
        """For teardown: stop it, then kill whatever of its family stays longer than it may."""
        try:
            if self.running:
                self.stop()
        finally:
            _, left = psutil.wait_procs(self._family, timeout=10)
            for process in left:
                process.kill()
        assert not left, f"{self!r} left processes behind: {left}"

    def report(self) -> str:
        """The last of its output, for the report of a failed test."""
        return self.output()[-_OUTPUT_IN_REPORT:]

    def _has_written(self, text: str) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._begin)
            return text.encode() in log.read()

    def _remember_family(self) -> None:
        """Note the descendants while the process that knows them lives; a process object outlasts reuse of its id."""
        try:
            self._family.update(psutil.Process(self.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            pass
