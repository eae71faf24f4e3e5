"""``progress(items)``: how far a loop has come, in place of a progress bar."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from celery_livelog.events import count
from celery_livelog.interrupts import is_interrupt
from celery_livelog.stages import stage
from celery_livelog.writer import current

_T = TypeVar("_T")


class progress(Generic[_T]):  # noqa: N801 - called as a function, as ``tqdm`` is
    """The same items, with a stage that tells how many of them are done: ``for url in progress(urls, "Fetch"):``.

    Each iteration is a stage, to which the lines of the loop's body belong. A loop that is left ends it.

    :param iterable: the items.
    :param desc: what people call the step, as for ``tqdm``; or `name`.
    :param total: how many items there are, if the iterable cannot tell.
    :param initial: how many items were done before.
    :param disable: only give the items.
    :param _of_tqdm: all else that ``tqdm`` takes is about how a bar is drawn, and is not needed.
    """

    def __init__(
        self,
        iterable: Iterable[_T],
        desc: str | None = None,
        total: int | None = None,
        *,
        name: str | None = None,
        initial: int = 0,
        disable: bool | None = False,
        **_of_tqdm: Any,
    ) -> None:
        self._iterable = iterable
        given = desc if name is None else name
        self._name = "Progress" if given is None else given
        self._total = None if total is None else count(total)
        self._initial = count(initial)
        self._disable = disable is True

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # never the total: ``list`` makes room for as many

    def __iter__(self) -> Iterator[_T]:
        if self._disable or current.get() is None:
            yield from self._iterable
            return
        with stage(self._name, pending=_length(self._iterable) if self._total is None else self._total) as step:
            if self._initial:
                step.progress(self._initial)
            advance = step.advance
            for item in self._iterable:
                yield item
                advance()


def _length(iterable: Iterable[Any]) -> int | None:
    """How many items there will be, if that can be told without reading them."""
    try:
        return operator.length_hint(iterable, -1) if hasattr(type(iterable), "__len__") else None
    except Exception as error:
        if is_interrupt(error):
            raise
        return None
