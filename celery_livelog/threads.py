"""Threads, executors and greenlets that a task starts belong to it, and to the run and stage in which it starts them.

They carry nothing else of its context.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, ContextVar
from functools import partial, wraps
from typing import Any

from celery_livelog.run_context import current_run
from celery_livelog.writer import current, innermost

#: What goes along.
_CARRIED: tuple[ContextVar[Any], ...] = (current, innermost, current_run)

_start = threading.Thread.start
_submit = ThreadPoolExecutor.submit


def install() -> None:
    """Make threads, executors and, where gevent or eventlet is loaded, greenlets carry the attempt.

    Harmless when done twice.
    """
    threading.Thread.start = _carrying_start  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = _carrying_submit  # type: ignore[assignment, method-assign]
    if "gevent" in sys.modules:
        sys.modules["gevent"].Greenlet.add_spawn_callback(_carry)
    green_thread = _green_thread()
    if green_thread is not None and green_thread.__init__.__module__ != __name__:
        green_thread.__init__ = _carrying_init(green_thread.__init__)


def uninstall() -> None:
    """Undo `install`, unless somebody has put theirs on top."""
    if threading.Thread.start is _carrying_start:
        threading.Thread.start = _start  # type: ignore[method-assign]
    if ThreadPoolExecutor.submit is _carrying_submit:
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]
    if "gevent" in sys.modules:
        sys.modules["gevent"].Greenlet.remove_spawn_callback(_carry)
    green_thread = _green_thread()
    if green_thread is not None and green_thread.__init__.__module__ == __name__:
        green_thread.__init__ = green_thread.__init__.__wrapped__


def _inherits(thread: threading.Thread) -> bool:
    """Whether a thread gets its context from the one that starts it, which Python 3.14 can do."""
    return getattr(thread, "_context", None) is not None or bool(getattr(sys.flags, "thread_inherit_context", 0))


def _carrying(call: Callable[..., Any]) -> Callable[..., Any]:
    values = [(variable, variable.get()) for variable in _CARRIED]

    def carried(*args: Any, **kwargs: Any) -> Any:
        tokens = [(variable, variable.set(value)) for variable, value in values]
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # ours is nobody's business
            raise
        finally:
            for variable, token in tokens:
                variable.reset(token)

    return carried


def _carry_into(context: Context) -> None:
    for variable in _CARRIED:
        context.run(variable.set, variable.get())


@wraps(_start)
def _carrying_start(self: threading.Thread) -> None:
    if current.get() is not None and not _inherits(self):
        # A thread begins with an empty context, so this one is as good. `Context.run` is in no traceback or stack.
        context = Context()
        _carry_into(context)
        self.run = partial(context.run, self.run)  # type: ignore[method-assign]
    _start(self)


@wraps(_submit)  # type: ignore[arg-type]
def _carrying_submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    if current.get() is None:
        return _submit(self, fn, *args, **kwargs)
    call = _carrying(fn)
    token = current.set(None)  # a thread that the pool starts now outlives the task: only the call is the task's
    try:
        return _submit(self, call, *args, **kwargs)
    finally:
        current.reset(token)


def _carry(greenlet: Any) -> None:
    """Let a greenlet that has not begun belong to the attempt that starts it; greenlets begin with an empty context."""
    if current.get() is not None:
        context = Context() if greenlet.gr_context is None else greenlet.gr_context
        _carry_into(context)
        greenlet.gr_context = context


def _green_thread() -> Any:
    """The class of eventlet's greenlets, where it is loaded."""
    return getattr(sys.modules.get("eventlet.greenthread"), "GreenThread", None)


def _carrying_init(init: Callable[..., None]) -> Callable[..., None]:
    def carrying_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        _carry(self)

    carrying_init.__wrapped__ = init  # type: ignore[attr-defined]
    return carrying_init
