"""Keeps Python itself from stopping a server of many viewers again and again."""

from __future__ import annotations

import gc
import sys

#: New objects after which it looks through the newest; and so many of these looks after which it looks further.
_OBJECTS, _LOOKS = 50_000, 20
#: Seconds after which a thread that asks the catalog makes way for the one that serves. That one gives way with every
#: piece that it sends or receives, and by default would have to wait 5 ms each time.
_TURN_SECONDS = 0.0002


def avoid_pauses() -> None:
    """For a process that does nothing but serve; call it when all is loaded.

    A thousand viewers who are told something twenty times a second look to the collector like a leak: it goes through
    all that the process has every second, for 0.2 s. Next to nothing of it waits for the collector.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_TURN_SECONDS)
    gc.set_threshold(_OBJECTS, _LOOKS, _LOOKS)
