"""What makes a function a kind of task, and values that such tasks need."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from celery import shared_task

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
        return shared_task(name=f"kinds.{name}", **(of or {}))(function)

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
