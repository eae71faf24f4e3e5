"""``mask(value)``: hide a secret that only the running code knows. Appends to the journal, and never raises.

What is masked outside of a task holds for the attempts that this process, or a child that it forks, begins later.
"""

from __future__ import annotations

import logging
from typing import Any

from celery_livelog.encodings import MIN_CHARACTERS, encoded
from celery_livelog.errors import complain
from celery_livelog.redact import compiled
from celery_livelog.writer import current

logger = logging.getLogger("celery_livelog")

#: Secrets that a process keeps outside of tasks; then the oldest go, since each beginning of an attempt carries all.
_MOST_KEPT = 1000
#: Bytes of a secret that go into one frame; a longer one is as good as several.
_LARGEST = 1024 * 1024

_kept: dict[bytes, None] = {}


def mask(value: object) -> None:
    """Replace a secret by ``***`` in the log, from now on, also where it is encoded in one of the usual ways.

    In a task, this holds for the running attempt; outside, for all attempts that this process begins from then on.

    :param value: text, bytes, or anything whose ``str()`` is the secret. Under 6 characters it is ignored.
    """
    try:
        secret = bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else encoded(str(value))
    except Exception:  # noqa: BLE001 - the value's own code
        return
    if len(secret) < MIN_CHARACTERS:
        return
    writer = current.get()
    for part in (secret[at : at + _LARGEST] for at in range(0, len(secret), _LARGEST)):
        if writer is None or writer.ended:
            _keep(part)
        else:
            writer.mask(part)


def masked() -> list[bytes]:
    """What this process has masked outside of tasks."""
    return list(_kept)


def patterns_of(task: Any) -> list[str] | None:
    """The patterns of ``@app.task(livelog_redact=[…])``; None, and an error in the worker's log, when one is bad."""
    given = getattr(task, "livelog_redact", None)
    patterns = list(given) if isinstance(given, (list, tuple, set, frozenset)) else [given] if given else []
    try:
        for pattern in patterns:
            compiled(pattern)
    except ValueError as error:
        logger.error(
            "livelog_redact of task %s: %s; expected regular expressions that match secrets. "
            "Until it is mended, all that this task prints is shown as ***",
            task.name, error,
        )  # fmt: skip
        return None
    return patterns


def _keep(secret: bytes) -> None:
    while len(_kept) >= _MOST_KEPT and secret not in _kept:
        complain(f"more than {_MOST_KEPT} secrets were masked outside of tasks; the oldest are no longer hidden")
        _kept.pop(list(_kept)[0], None)  # noqa: RUF015 - another thread may mask, too
    _kept[secret] = None
