"""How tasks end."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from tests.faults.kinds.kind import CustomError, Faulty, FaultyError, UnpicklableError, kind, tried


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
