"""Whether what was allowed once is allowed still: asked again and again, beside what it allows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from celery_livelog.cancel import cancel
from celery_livelog.errors import StoreError

#: Seconds from an answer to the next question.
_AGAIN = 15.0
#: Seconds for which an answer is good: when the next one takes longer, what it allows waits for that.
_GOOD = 20.0
#: Seconds that it waits; then it is a no.
_PATIENCE = 10.0


class Standing:
    """A permission that was given just now.

    :param ask: whether it still stands; a `StoreError` is no answer.
    """

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._since = monotonic()
        self._asking: asyncio.Task[bool] | None = None

    async def lasts(self) -> bool:
        """Whether it does, as of some seconds ago.

        :raises StoreError: when nobody can tell any longer.
        """
        age = monotonic() - self._since
        if self._asking is None:
            if age < _AGAIN:
                return True
            self._asking = asyncio.ensure_future(self._ask())
        if age >= _GOOD:
            await asyncio.wait({self._asking}, timeout=_PATIENCE)
        if not self._asking.done():
            return age < _GOOD
        asked, self._asking = self._asking, None
        try:
            answer = asked.result()
        except StoreError:
            if age >= _GOOD:
                raise
            return True
        self._since = monotonic()
        return answer

    async def aclose(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            await cancel(self._asking)
