"""Runs one program with a log of its own. The program comes first: whatever of ours fails, it runs.

Its end is waited for, and how it ended is how we do.
"""

from __future__ import annotations

import os
import shlex
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns

from celery_livelog import endings
from celery_livelog.attempts import Attempt
from celery_livelog.errors import LivelogError, without_secrets
from celery_livelog.frames import STDOUT
from celery_livelog.programs.console import Console, write
from celery_livelog.programs.process import Process, Signals
from celery_livelog.programs.recording import Recording
from celery_livelog.programs.terminal import Terminal
from celery_livelog.records import utc
from celery_livelog.settings import Settings

#: What the program finds the id of its log under.
TASK_ID = "CELERY_LIVELOG_TASK_ID"
NOT_FOUND, NOT_EXECUTABLE = 127, 126
#: Seconds of waiting for the last lines to be sent after which that is said.
_TELL_SECONDS = 3.0
#: Characters of a command line that are kept.
_LONGEST = 4096


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be run, and how.

    `patience`: seconds to wait at the end until all is sent.
    """

    command: Sequence[str]
    attempt: Attempt
    terminal: bool = False
    quiet: bool = False
    patience: float = 10.0
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


def attempt_of(task_id: str, command: Sequence[str], name: str | None, settings: Settings) -> Attempt:
    """What is known of a program before it runs."""
    return Attempt(
        attempt=os.urandom(8).hex(),
        task_id=task_id,
        name=_text(name or Path(command[0]).name),
        worker=socket.gethostname(),
        pid=os.getpid(),
        args=_text(settings.redactor(shlex.join(command)))[:_LONGEST],
        started=utc(time_ns()),
    )


def run(order: Order, settings: Settings) -> int:
    """Run a program to its end; give its exit code, 128 + N when signal N killed it."""
    _open_standard_descriptors()
    signals = Signals()
    recording = _record(order, settings)
    try:
        return _Run(order, signals, recording).to_end()
    finally:
        if recording is not None:
            recording.close()
        _wait(recording, order, signals)


class _Run:
    def __init__(self, order: Order, signals: Signals, recording: Recording | None) -> None:
        self._order = order
        self._signals = signals
        self._recording = recording
        self._terminal = self._open_terminal() if order.terminal else None

    def to_end(self) -> int:
        raw: Mapping[int, int] = {}
        if self._recording is not None:
            if self._terminal is None:
                raw = self._raw_files(self._recording)
            self._order.attempt.lease = self._recording.lease
            self._recording.begin(self._order.attempt)
        try:
            process = self._start(raw)
        except OSError as error:
            return self._not_started(error)
        console = None
        if self._recording is not None and raw:
            console = Console(raw, self._recording.shown, quiet=self._order.quiet)
        if self._terminal is not None:
            self._terminal.start()
        status, memory = process.wait(self._terminal.resize if self._terminal is not None else lambda: None)
        if self._terminal is not None:
            self._terminal.finish()
        ending = endings.of_program(status, memory)
        if self._recording is not None:
            self._recording.end(ending)
        if console is not None:
            console.finish(self._signals.told_to_go)
        return ending.exit_code

    def _start(self, raw: Mapping[int, int]) -> Process:
        order, terminal = self._order, self._terminal
        environment = {**order.environment, TASK_ID: order.attempt.task_id}
        path, typed = (terminal.path, terminal.takes_input) if terminal is not None else (None, False)
        return Process(order.command, environment, self._signals, raw, path, typed=typed)

    def _not_started(self, error: OSError) -> int:
        missing = isinstance(error, FileNotFoundError)
        exit_code = NOT_FOUND if missing else NOT_EXECUTABLE
        why = f"{self._order.command[0]}: {'command not found' if missing else error.strerror}"
        say(why)
        if self._recording is not None:
            self._recording.end(endings.of_no_program(exit_code, why))
        return exit_code

    def _open_terminal(self) -> Terminal | None:
        try:
            return Terminal(self._take)
        except OSError as error:
            say(f"the program has no terminal of its own: {error}")
            return None

    def _raw_files(self, recording: Recording) -> Mapping[int, int]:
        try:
            return recording.open_raw_files()
        except OSError as error:
            say(f"the output of the program is not logged: no files for it in {recording.place}: {error}")
            return {}

    def _take(self, data: bytes) -> None:
        """What the program has printed on its terminal."""
        if self._recording is not None:
            self._recording.writer.write_bytes(STDOUT, data)
        if not self._order.quiet:
            write(1, data)


def _text(argument: str) -> str:
    """What was given as bytes that are no text, as text."""
    return argument.encode("utf-8", "backslashreplace").decode()


def say(what: str) -> None:
    """Say something on stderr, in one line."""
    write(2, without_secrets(f"celery-livelog: {what}\n").encode(errors="backslashreplace"))


def _record(order: Order, settings: Settings) -> Recording | None:
    """Begin to record; what the shipper says of its troubles is said here for as long as somebody may read it."""
    ours, theirs = os.pipe()
    try:
        recording = Recording(settings, theirs)
    except (LivelogError, OSError) as error:
        say(f"{order.attempt.task_id} runs without a log: {error}")
        return None
    threading.Thread(target=_pass_on, args=(ours,), name="livelog-shipper-says", daemon=True).start()
    return recording


def _pass_on(pipe: int) -> None:
    while data := os.read(pipe, 65536):
        write(2, data)


def _wait(recording: Recording | None, order: Order, signals: Signals) -> None:
    """Wait until all is where it belongs, or leave the rest to the shipper. Ctrl-C is enough to go."""
    what, longer = f"the end of the log of {order.attempt.task_id}", order.patience - _TELL_SECONDS
    try:
        signals.restore()
        if recording is None or recording.wait(min(_TELL_SECONDS, order.patience)):
            return
        if longer > 0:
            say(f"{what} is on its way")
        if longer <= 0 or not recording.wait(longer):
            say(f"{what} is still on its way; another process goes on from {recording.place}")
    except KeyboardInterrupt:
        pass


def _open_standard_descriptors() -> None:
    """Where one of the first three is closed, as some daemons leave them, no file of ours must take its number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
