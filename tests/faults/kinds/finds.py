"""What tasks find: signals, descriptors, context, the ways of the interpreter."""

from __future__ import annotations

import atexit
import contextvars
import copy
import faulthandler
import fcntl
import gc
import locale
import logging
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults.kinds.kind import kind, tried


@kind()
def signals() -> dict[str, Any]:
    return {
        **{str(number): repr(signal.getsignal(number)) for number in signal.valid_signals()},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timer": list(signal.getitimer(signal.ITIMER_REAL)),
        "wakeup": signal.set_wakeup_fd(-1),
    }


@kind()
def descriptors() -> dict[str, Any]:
    low = [fd for fd in range(64) if Path(f"/proc/self/fd/{fd}").exists()]
    free = sorted({*range(64)} - {*low})
    new = os.open(os.devnull, os.O_RDONLY)
    os.close(new)
    pair = os.pipe()
    for end in pair:
        os.close(end)
    return {
        # Which numbers the worker's own have is decided by chance while it starts; a task's are the lowest free ones.
        "new": new == free[0],
        "pair": list(pair) == free[:2],
        "low": len(low),
        "inheritable": [os.get_inheritable(fd) for fd in range(3)],
        "terminals": [os.isatty(fd) for fd in range(3)],
        "flags": [fcntl.fcntl(fd, fcntl.F_GETFD) for fd in range(3)],
        "blocking": [os.get_blocking(fd) for fd in range(3)],
        "poll": _poll(),
        "select": [len(ready) for ready in select.select([], [1, 2], [], 0)],
        "size": tried(lambda: os.get_terminal_size(1)),
        "encoding": os.device_encoding(1),
    }


def _poll() -> list[list[int]]:
    poll = select.poll()
    for fd in (1, 2):
        poll.register(fd, select.POLLOUT)
    return sorted(list(ready) for ready in poll.poll(0))


@kind()
def inherited_descriptors() -> str:
    """What a subprocess gets that gets all."""
    return subprocess.run(["ls", "/proc/self/fd"], stdout=subprocess.PIPE, close_fds=False, text=True).stdout


@kind()
def limits() -> dict[str, Any]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "limits": {name: list(resource.getrlimit(getattr(resource, name))) for name in names},
        "recursion": sys.getrecursionlimit(),
        "switch": str(sys.getswitchinterval()),
        "umask": _umask(),
        "directory": str(Path.cwd()),
        "environment": dict(os.environ),
        "group": os.getpgid(0) == os.getpgid(os.getppid()),
    }


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


@kind()
def interpreter() -> dict[str, Any]:
    return {
        "gc": [gc.isenabled(), list(gc.get_threshold()), len(gc.callbacks)],
        "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, repr(print)],
        "threading": [repr(threading.excepthook), sys.gettrace() is None, sys.getprofile() is None],
        "warnings": [warnings.showwarning.__module__, len(warnings.filters)],
        "faulthandler": faulthandler.is_enabled(),
        "locale": [locale.getpreferredencoding(False), sys.getfilesystemencoding(), list(locale.getlocale())],
        "original": [type(sys.__stdout__).__name__, sys.__stdout__.fileno(), sys.__stderr__.fileno()],
        "exit": tried(lambda: atexit.register(print) and atexit.unregister(print)),
    }


@kind()
def threads() -> list[str]:
    return sorted(f"{thread.name} {thread.daemon}" for thread in threading.enumerate())


@kind()
def stack() -> list[str]:
    """Where the task stands, in its own thread and in those it starts."""
    stacks = [_names()]
    thread = threading.Thread(target=lambda: stacks.append(_names()))
    thread.start()
    thread.join()
    return [" ".join(names) for names in stacks]


def _names() -> list[str]:
    return [f"{Path(frame.filename).name}:{frame.name}" for frame in traceback.extract_stack()]


@kind()
def log_setup() -> dict[str, Any]:
    names = ("", "celery", "celery.task", "celery.redirected", "kinds")
    return {
        name: [logging.getLogger(name).level, logging.getLogger(name).propagate, logging.getLogger(name).disabled]
        for name in names
    } | {"raise": logging.raiseExceptions, "factory": repr(logging.getLogRecordFactory())}


_NAMES = ("mode", "name", "closed", "line_buffering", "write_through", "newlines", "encoding", "errors", "softspace")
_METHODS = ("isatty", "writable", "readable", "fileno")


@kind()
def streams() -> dict[str, Any]:
    """What ``sys.stdout`` and ``sys.stderr`` say of themselves."""
    return {"stdout": _stream(sys.stdout), "stderr": _stream(sys.stderr)}


def _stream(stream: Any) -> dict[str, Any]:
    has = {name: tried(lambda name=name: getattr(stream, name)) for name in _NAMES}
    return has | {name: tried(lambda name=name: getattr(stream, name)()) for name in _METHODS}


@kind()
def copies_of_stdout() -> list[Any]:
    return [
        tried(lambda: len(pickle.dumps(sys.stdout)) > 0),
        tried(lambda: type(copy.copy(sys.stdout)).__name__),
        tried(lambda: type(copy.deepcopy({"to": sys.stdout})).__name__),
    ]


@kind()
def context() -> list[Any]:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("mine", default=0)
    variable.set(1)
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(variable.get()))
    thread.start()
    thread.join()

    def prepare() -> None:
        variable.set(2)

    with ThreadPoolExecutor(1, initializer=prepare) as pool:
        seen.append(pool.submit(variable.get).result())
        pool.submit(variable.set, 3).result()
        seen.append(pool.submit(variable.get).result())
    return seen
