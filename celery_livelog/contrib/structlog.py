"""For structlog that prints by itself. One that hands its events to `logging` needs none of this.

::

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            LivelogRenderer(structlog.dev.ConsoleRenderer(colors=False)),
        ]
    )
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from celery_livelog.capture import Logged, Tee
from celery_livelog.frames import STDERR, STDOUT
from celery_livelog.log_fields import Rendered, as_json, of_structlog
from celery_livelog.writer import AttemptWriter, current

#: What structlog calls levels that `logging` calls otherwise.
_LEVELS = {
    "warn": "WARNING",
    "err": "ERROR",
    "failure": "ERROR",
    "exception": "ERROR",
    "fatal": "CRITICAL",
    "msg": "INFO",
    "log": "INFO",
}


class LivelogRenderer:
    """The last processor: an event is logged by the task, and what `renderer` makes of it is printed as before.

    The log has each event once, with its level, the name of its logger and its key-values, whatever it is printed to.
    Those that it has as plain output only are bytes, as for `BytesLogger`, and events of a logger that was given the
    process' own stderr (or for `WriteLogger` stdout) before the first task: those write past ``sys.stderr`` as it is in
    tasks.

    :param renderer: gives the event as text.
    """

    def __init__(self, renderer: Callable[[Any, str, MutableMapping[str, Any]], Any]) -> None:
        self._renderer = renderer

    def __call__(self, logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> Any:
        level = str(event_dict.get("level") or method_name)
        name = str(event_dict.get("logger") or getattr(logger, "name", None) or "structlog")
        writer = current.get()
        given = {} if writer is None else dict(event_dict)  # renderers take out of it what they have shown
        text = self._renderer(logger, method_name, event_dict)
        if writer is None or writer.ended or not isinstance(text, str) or _is_captured(logger, writer):
            return text
        message, fields = of_structlog(given)
        if isinstance(logger, logging.Logger):
            return Rendered(text, message, fields)
        writer.log(_LEVELS.get(level, level.upper()), name, message, as_json(fields))
        return Logged(text)


def _is_captured(logger: Any, writer: AttemptWriter) -> bool:
    """Whether what a logger is given comes into the log anyway, by descriptor 1 or 2."""
    if isinstance(logger, logging.Logger):
        return False
    file: Any = getattr(logger, "_file", None)
    if isinstance(file, Tee) or (isinstance(logger, structlog.PrintLogger) and file is sys.__stdout__):
        return False  # the latter means whatever ``sys.stdout`` is when it prints
    try:
        return writer.captures_descriptors and file.fileno() in {STDOUT, STDERR}
    except (AttributeError, OSError, ValueError):
        return False
