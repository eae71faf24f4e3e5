"""Tasks that do all that a task may do; each tells what it has seen. Knows nothing of livelog.

A worker runs them once with livelog off and once with it on: `test_same_as_without` compares.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import copy
import faulthandler
import fcntl
import gc
import io
import locale
import logging
import multiprocessing
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

_logger = logging.getLogger("kinds")
#: Every kind with the options that it is sent with.
KINDS: dict[str, dict[str, Any]] = {}
#: Kinds after which the process for tasks is gone, or not what it was.
ROUGH: set[str] = set()
#: Kinds that leave no result behind.
WITHOUT_RESULT: set[str] = set()


def kind(
    rough: bool = False, result: bool = True, of: dict[str, Any] | None = None, **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """Make a function a task.

    :param rough: whether the next task needs a new process.
    :param result: whether it leaves a result.
    :param of: options of the task.
    :param options: for ``apply_async``.
    """

    def register(function: Callable[..., Any]) -> Any:
        name = function.__name__
        KINDS[name] = options
        if rough:
            ROUGH.add(name)
        if not result:
            WITHOUT_RESULT.add(name)
        return shared_task(**(of or {}))(function)

    return register


class CustomError(Exception):
    """An exception of a project's own."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(code, what)
        self.code = code


class UnpicklableError(Exception):
    """One that cannot leave its process."""

    def __init__(self) -> None:
        super().__init__("unpicklable")
        self.lock = threading.Lock()


class FaultyError(Exception):
    """One that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Faulty:
    """A value that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Shouting(str):
    """Text with ways of its own."""

    def __str__(self) -> str:
        return self.upper()


def tried(call: Callable[[], Any]) -> Any:
    """What a call gives or raises, as something that JSON holds."""
    try:
        value = call()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what was seen
        return f"raised {type(error).__name__}: {error}"
    return value if isinstance(value, (int, str, list, dict, type(None))) else f"{type(value).__name__}"


# -- how a task ends --------------------------------------------------------------------------------------------------


@kind()
def returns() -> dict[str, Any]:
    print("about to return")
    return {"text": "€ \0", "nothing": None, "numbers": [1, 2.5, -1], "nested": {"a": ["b"]}}


@kind()
def raises() -> None:
    print("about to raise")
    raise ValueError("a text of\ntwo lines")


@kind()
def raises_custom() -> None:
    raise CustomError(7, "custom")


@kind()
def raises_unpicklable() -> None:
    raise UnpicklableError


@kind()
def raises_faulty() -> None:
    raise FaultyError


@kind()
def raises_chained() -> None:
    try:
        try:
            {}["absent"]
        finally:
            print("in between")
    except KeyError as error:
        try:
            raise TypeError("while handling")
        except TypeError:
            raise RuntimeError("chained") from error


@kind()
def raises_in_executor() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(print, Faulty()).result()


@kind()
def raises_unreturnable() -> object:
    return object()


def _deeper(depth: list[int]) -> None:
    depth[0] += 1
    _deeper(depth)


@kind()
def recursion_depth() -> int:
    depth = [0]
    with contextlib.suppress(RecursionError):
        _deeper(depth)
    return depth[0]


@kind()
def recursion_error() -> None:
    _deeper([0])


def _print_deeper(depth: int) -> None:
    print(depth)
    _print_deeper(depth + 1)


@kind()
def recursion_error_in_print() -> list[Any]:
    with contextlib.redirect_stdout(open(os.devnull, "w")):
        return [tried(lambda: _print_deeper(0)), tried(lambda: print("as before"))]


@kind(rough=True)
def system_exit() -> None:
    print("about to exit")
    sys.exit(3)


@kind(rough=True)
def system_exit_text() -> None:
    sys.exit("an exit with words")


@kind(rough=True)
def keyboard_interrupt() -> None:
    raise KeyboardInterrupt


@kind(rough=True)
def base_exception() -> None:
    raise GeneratorExit("odd")


@kind(rough=True)
def os_exit() -> None:
    print("about to end the process")
    os._exit(7)


@kind(rough=True)
def kill() -> None:
    print("about to be killed")
    os.kill(os.getpid(), signal.SIGKILL)


@kind(rough=True)
def segmentation_fault() -> None:
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)


@kind(rough=True)
def terminated() -> None:
    print("about to be terminated")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)


@kind(rough=True)
def exec_other() -> None:
    print("about to become another program", flush=True)
    os.execv("/bin/sh", ["sh", "-c", "echo another program; exit 3"])


@kind(soft_time_limit=1)
def soft_limit() -> None:
    print("until the soft limit")
    time.sleep(30)


@kind(soft_time_limit=1)
def soft_limit_caught() -> str:
    try:
        while True:
            time.sleep(0.001)
    except SoftTimeLimitExceeded as error:
        print("in time")
        return repr(error)


@kind(rough=True, time_limit=1)
def hard_limit() -> None:
    print("until the hard limit")
    time.sleep(30)


@kind(result=False)
def ignored() -> None:
    print("about to be ignored")
    raise Ignore


@kind(result=False, of={"acks_late": True})
def rejected() -> None:
    print("about to be rejected")
    raise Reject("deliberate", requeue=False)


@kind(of={"bind": True, "max_retries": 1})
def retried(self: Task) -> str:
    print("try", self.request.retries)
    if self.request.retries == 0:
        raise self.retry(countdown=0, exc=ValueError("again"))
    return "second try"


@kind(of={"bind": True, "max_retries": 0})
def retried_too_often(self: Task) -> None:
    try:
        raise CustomError(1, "first")
    except CustomError as error:
        raise self.retry(countdown=0, exc=error) from None


@kind(of={"autoretry_for": (ValueError,), "max_retries": 1, "default_retry_delay": 0})
def retried_by_itself() -> None:
    raise ValueError("always")


@shared_task
def successor(number: int) -> int:
    print("instead of the other")
    return number + 1


@kind(of={"bind": True})
def replaced(self: Task) -> None:
    print("about to be replaced")
    self.replace(successor.s(41))


@kind(of={"bind": True})
def with_state(self: Task) -> str:
    self.update_state(state="PROGRESS", meta={"done": 1})
    return str(self.AsyncResult(self.request.id).state)


@kind()
def nested() -> list[Any]:
    inner = successor.apply(args=(1,))
    failed = raises.apply()
    return [inner.result, inner.state, repr(failed.result), failed.state, failed.traceback, successor(5)]


# -- what a task finds ------------------------------------------------------------------------------------------------


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
    new = os.open(os.devnull, os.O_RDONLY)
    os.close(new)
    pair = os.pipe()
    for end in pair:
        os.close(end)
    return {
        "new": new,
        "pair": list(pair),
        "low": [fd for fd in range(64) if Path(f"/proc/self/fd/{fd}").exists()],
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


# -- how it writes ----------------------------------------------------------------------------------------------------


@kind()
def writes() -> list[Any]:
    out = sys.stdout
    return [
        tried(lambda: out.write("a line\n")),
        tried(lambda: out.write("half")),
        tried(lambda: out.write("")),
        tried(lambda: out.write("\n")),
        tried(lambda: out.write(Shouting("shouted\n"))),
        tried(lambda: out.write("a\r\nb\rc\n")),
        tried(lambda: out.write("NUL \0 and bell \a\n")),
        tried(lambda: out.writelines(["one\n", "two\n"])),
        tried(lambda: out.flush()),
        tried(lambda: print("parts", 1, None, sep="-", end="!\n", file=sys.stderr, flush=True)),
        tried(lambda: print(Shouting("printed"))),
        tried(lambda: print(Faulty())),
        tried(lambda: print()),
        tried(lambda: print("€ ☃ 𝄞")),
        tried(lambda: out.writelines(["good\n", 5])),
    ]


@kind()
def writes_no_text() -> list[Any]:
    return [tried(lambda value=value: sys.stdout.write(value)) for value in (b"bytes\n", 5, None)]


@kind()
def writes_surrogates() -> list[Any]:
    return [
        tried(lambda: print("a file's name: caf\udce9")),
        tried(lambda: print("half of a pair: \ud83d")),
        tried(lambda: print("as before")),
    ]


@kind()
def writes_much() -> list[Any]:
    line = "x" * (16 << 20)
    with contextlib.redirect_stderr(io.StringIO()):
        return [tried(lambda: print(line)), tried(lambda: sys.stdout.write("\n" * 1000))]


@kind()
def redirects() -> list[Any]:
    text = io.StringIO()
    before = sys.stdout
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        print("kept")
        print("kept too", file=sys.stderr)
    print("shown")
    sys.stdout = text
    print("kept")
    sys.stdout = before
    return [text.getvalue(), sys.stdout is before]


@kind(rough=True)
def replaces_stdout() -> str:
    """And does not put it back."""
    sys.stdout = io.StringIO()
    print("kept")
    return sys.stdout.getvalue()


@kind(rough=True)
def deletes_stdout() -> Any:
    del sys.stdout
    return tried(lambda: print("nowhere"))


@kind(rough=True)
def stdout_is_none() -> Any:
    sys.stdout = None  # type: ignore[assignment]
    return tried(lambda: print("nowhere"))


@kind(rough=True)
def closes_stdout() -> list[Any]:
    return [
        tried(lambda: sys.stdout.close()),
        sys.stdout.closed,
        tried(lambda: print("into a closed stream")),
        tried(lambda: sys.stdout.flush()),
        tried(lambda: sys.stdout.close()),
        tried(lambda: print("stderr is open", file=sys.stderr)),
    ]


@kind(rough=True)
def uses_stdout_up() -> list[Any]:
    def use() -> None:
        with sys.stdout as stream:
            stream.flush()

    return [tried(use)]


@kind(rough=True)
def detaches_stdout() -> list[Any]:
    """As scripts do for an encoding of their own."""
    stream = tried(lambda: io.TextIOWrapper(sys.stdout.detach(), encoding="latin-1", errors="replace"))
    return [stream]


@kind(rough=True)
def reconfigures_stdout() -> list[Any]:
    return [
        tried(lambda: sys.stdout.reconfigure(errors="replace", line_buffering=True)),
        tried(lambda: sys.stdout.errors),
        tried(lambda: print("caf\udce9")),
    ]


@kind()
def plays_with_descriptors() -> list[Any]:
    saved = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    seen = [os.write(1, b"swallowed\n")]
    os.dup2(2, 1)
    seen.append(os.write(1, b"by the other\n"))
    os.dup2(saved, 1)
    seen.append(os.write(1, b"shown again\n"))
    os.close(saved)
    os.close(null)
    return seen


@kind()
def asks() -> Any:
    return tried(lambda: input("a question? "))


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
