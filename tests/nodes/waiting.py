"""The one place where a test waits for something that tells nobody when it happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_INTERVAL_SECONDS = 0.02


def wait_for(condition: Callable[[], T], timeout: float = 30.0, what: str = "") -> T:
    """Ask until `condition` gives something true, and return that.

    :param timeout: seconds.
    :param what: what was waited for, for the message.
    :raises AssertionError: when the time is over.
    """
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:g} s for {what or condition}; the last answer was {value!r}")
        time.sleep(_INTERVAL_SECONDS)
