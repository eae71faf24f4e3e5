"""Keeps Python's garbage collector from stopping a server of many viewers again and again."""

from __future__ import annotations

import gc

#: New objects after which it looks through the newest; and so many of these looks after which it looks further.
_OBJECTS, _LOOKS = 50_000, 20


def avoid_pauses() -> None:
    """For a process that does nothing but serve; call it when all is loaded.

    A thousand viewers who are told something twenty times a second look to the collector like a leak: it goes through
    all that the process has every second, for 0.2 s. Next to nothing of it waits for the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, _LOOKS, _LOOKS)
