"""How tasks log, warn, fork, start processes and are interrupted meanwhile."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from typing import Any

from tests.faults.kinds.ends import raises
from tests.faults.kinds.kind import CustomError, Faulty, kind, tried

_logger = logging.getLogger("kinds")


@kind()
def logs() -> list[Any]:
    return [
        tried(lambda: _logger.info("with %s", "arguments")),
        tried(lambda: _logger.warning("too few: %s %s", 1)),
        tried(lambda: _logger.warning("faulty: %s", Faulty())),
        tried(lambda: _logger.error("with its stack", stack_info=False, extra={"mine": 1})),
        tried(lambda: _logger.info("")),
        tried(lambda: _logger.log(5, "unheard")),
        tried(lambda: logging.getLogger("celery.task").info("of the task's logger")),
        tried(_log_exception),
    ]


def _log_exception() -> None:
    try:
        raise CustomError(1, "logged")
    except CustomError:
        _logger.exception("with its traceback")


class _Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise CustomError(2, "from a handler")


class _RaisingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        raise CustomError(3, "from a formatter")


@kind()
def logs_through_faulty_handlers() -> list[Any]:
    seen = []
    stream = logging.StreamHandler()
    stream.setFormatter(_RaisingFormatter())
    for handler in (_Raising(), stream):
        logging.getLogger().addHandler(handler)
        seen.append(tried(lambda: _logger.warning("faulty on its way")))
        logging.getLogger().removeHandler(handler)
    return seen


@kind()
def records_as_seen() -> list[list[str]]:
    """What another handler of the task's finds in a record."""
    seen: list[list[str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(sorted(vars(record)))  # type: ignore[method-assign]
    _logger.addHandler(handler)
    _logger.warning("looked at")
    _logger.removeHandler(handler)
    return seen


@kind()
def warns() -> None:
    warnings.warn("careful", stacklevel=1)


@kind()
def shows_traceback() -> list[str]:
    try:
        raises.run()
    except ValueError:
        traceback.print_exc()
        return traceback.format_exc().splitlines()
    return []


@kind()
def fails_in_thread() -> None:
    thread = threading.Thread(target=raises.run, name="failing")
    thread.start()
    thread.join()


@kind()
def forks() -> list[int]:
    sys.stdout.flush()  # else each child shows once more whatever Python holds back of the tasks before
    seen = []
    for number in range(3):
        pid = os.fork()
        if not pid:
            os.write(1, b"from a child\n")
            print("printed by a child", flush=True)
            os._exit(number)
        seen.append(os.waitpid(pid, 0)[1])
    processes = multiprocessing.get_context("fork")
    child = processes.Process(target=print, args=("by multiprocessing",))
    child.start()
    child.join()
    return [*seen, child.exitcode or 0]


@kind()
def fork_logs() -> int:
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _logger.warning("logged by a child")
        os._exit(0)
    return os.waitpid(pid, 0)[1]


@kind()
def subprocesses() -> list[Any]:
    return [
        subprocess.run(["echo", "a child's"]).returncode,
        subprocess.run(["sh", "-c", "echo a child says >&2; exit 4"]).returncode,
        subprocess.run(["sh", "-c", "kill -9 $$"]).returncode,
        subprocess.run(["sh", "-c", "test -t 1"]).returncode,
        subprocess.run(["cat"], input="through", text=True, capture_output=True).stdout,
        os.system("echo a shell's"),
        tried(lambda: subprocess.run(["/nowhere/at/all"])),
    ]


@kind()
def interrupted_by_signals() -> list[Any]:
    """The usual way of a time limit within a task: a handler that raises, wherever the task is."""

    def late(*_: Any) -> None:
        raise TimeoutError("too late")

    before = signal.signal(signal.SIGALRM, late)
    caught = 0
    try:
        for number in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + number * 0.000003)
                until = time.monotonic() + 10
                while time.monotonic() < until:
                    with contextlib.redirect_stdout(io.StringIO()):
                        sys.stdout.write("")
                    os.getpid()
            except TimeoutError:
                caught += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return [caught]


@kind()
def collects_garbage() -> list[Any]:
    """Printing from ``__del__``, in the middle of whatever."""

    class Last:
        def __init__(self) -> None:
            self.circle = self

        def __del__(self) -> None:
            print(end="")

    thresholds = gc.get_threshold()
    gc.set_threshold(5)
    for _ in range(500):
        Last()
    gc.set_threshold(*thresholds)
    return [gc.collect() >= 0]


@kind(rough=True)
def changes_surroundings() -> list[Any]:
    """What daemons do at their start."""
    os.umask(0o777)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return [tried(lambda: print("in other surroundings")), tried(lambda: subprocess.run(["echo", "still"]).returncode)]


@kind()
def last() -> str:
    return "the end"
