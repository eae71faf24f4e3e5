"""Functions of which each call is a stage. They stay what they are: plain, coroutine or generator functions, methods.

A generator's code is in its stage while it runs, and whoever iterates over it is not.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from functools import wraps
from types import TracebackType
from typing import Any, Protocol, TypeVar

from celery_livelog.writer import Entered, innermost

_F = TypeVar("_F", bound=Callable[..., Any])


class Stage(Protocol):
    """What a call is made into; see `stages.stage`."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begin(self) -> Entered | None:
        """Begin it without being in it."""

    def end(self, error: BaseException | None = None) -> None:
        """End it."""


def staged(function: _F, new: Callable[[], Stage]) -> _F:
    """A function that does the same in a stage.

    :param function: a function or method of any kind, or a task, whose own function is replaced.
    :param new: makes the stage of a call.
    """
    given: Any = function
    if isinstance(given, (staticmethod, classmethod)):
        return type(given)(staged(given.__func__, new))  # type: ignore[return-value]
    if hasattr(given, "apply_async") and callable(getattr(given, "run", None)):
        given.run = staged(given.run, new)
        return function
    for is_one, wrapped in _KINDS:
        if is_one(given):
            return wraps(given)(wrapped(given, new))  # type: ignore[return-value]
    return wraps(given)(_call(given, new))  # type: ignore[return-value]


def _call(function: Callable[..., Any], new: Callable[[], Stage]) -> Callable[..., Any]:
    def staged_call(*args: Any, **kwargs: Any) -> Any:
        with new():
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                _hide_this_frame(error)
                raise

    return staged_call


def _coroutine(function: Callable[..., Any], new: Callable[[], Stage]) -> Callable[..., Any]:
    async def staged_coroutine(*args: Any, **kwargs: Any) -> Any:
        with new():
            try:
                return await function(*args, **kwargs)
            except BaseException as error:
                _hide_this_frame(error)
                raise

    return staged_coroutine


def _generator(function: Callable[..., Any], new: Callable[[], Stage]) -> Callable[..., Any]:
    def staged_generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        stage = new()
        inside = _Inside(stage.begin())
        step: Callable[[Any], Any] = generator.send
        given: Any = None
        try:
            while True:
                with inside:
                    item = step(given)
                try:
                    step, given = generator.send, (yield item)
                except BaseException as error:  # noqa: BLE001 - goes in there; also GeneratorExit, by which it is closed
                    _hide_this_frame(error)
                    step, given = generator.throw, error
        except StopIteration as stop:
            stage.end()
            return stop.value
        except BaseException as error:
            _hide_this_frame(error)
            stage.end(error)
            raise

    return staged_generator


def _async_generator(function: Callable[..., Any], new: Callable[[], Stage]) -> Callable[..., Any]:
    async def staged_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        stage = new()
        inside = _Inside(stage.begin())
        step: Callable[[Any], Any] = generator.asend
        given: Any = None
        try:
            while True:
                with inside:
                    item = await step(given)
                try:
                    step, given = generator.asend, (yield item)
                except BaseException as error:  # noqa: BLE001 - see `_generator`
                    _hide_this_frame(error)
                    step, given = generator.athrow, error
        except StopAsyncIteration:
            stage.end()
        except BaseException as error:
            _hide_this_frame(error)
            stage.end(error)
            raise

    return staged_generator


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[..., Callable[..., Any]]], ...] = (
    (inspect.iscoroutinefunction, _coroutine),
    (inspect.isasyncgenfunction, _async_generator),
    (inspect.isgeneratorfunction, _generator),
)


class _Inside:
    """Being in a stage for a step of its generator, which may be taken in another context than the one before."""

    __slots__ = ("_before", "_entered")

    def __init__(self, entered: Entered | None) -> None:
        self._entered = entered

    def __enter__(self) -> None:
        self._before = innermost.get()
        innermost.set(self._entered)

    def __exit__(self, *_: object) -> None:
        innermost.set(self._before)


def _hide_this_frame(error: BaseException) -> None:
    """Leave the frame of ours out of a traceback; Python 3.10 puts it there again."""
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
