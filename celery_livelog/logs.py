"""Log records of tasks, on their way from `logging` to the journal: once each, with all that belongs to them."""

from __future__ import annotations

import logging
import reprlib
from typing import Any

from celery_livelog.interrupts import is_interrupt
from celery_livelog.log_fields import Rendered, as_json, of_record, of_structlog
from celery_livelog.writer import AttemptWriter, current

#: The logger through which Celery's stand-in for stdout sends what is printed to the console.
REDIRECTED = "celery.redirected"


class LogHandler(logging.Handler):
    """Takes log records of tasks. Sits on the root logger and on ``celery.task``, which does not propagate."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Take the record, without the handler's lock: a fork in another thread could leave it held for ever."""
        if record.name != REDIRECTED:  # asked first: this is the way of every print
            self.take(record)
        return True

    def take(self, record: logging.LogRecord) -> bool:
        """Take a record unless it is no task's or was taken before; give whether it is in a task's log."""
        writer = current.get()
        if writer is None or writer.ended:
            return False
        own = _is_celerys_own(record)
        if writer.takes(record) and not own:
            _take(writer, record)
        return not own


def _take(writer: AttemptWriter, record: logging.LogRecord) -> None:
    try:
        text, fields = _parts(record)
        writer.log(record.levelname, str(record.name), text, as_json(fields))
    except (MemoryError, RecursionError) as error:
        if is_interrupt(error):
            raise
        writer.lost += 1  # ours: without us there was room


def _parts(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The text of a record and its key-values."""
    try:
        if isinstance(record.msg, Rendered):
            return record.msg.message, record.msg.fields
        if isinstance(record.msg, dict) and hasattr(record, "_logger") and hasattr(record, "_name"):
            return of_structlog(record.msg)
        fields = of_record(record)
    except Exception as error:
        if isinstance(error, RecursionError) or is_interrupt(error):
            raise
        fields = {}  # another thread has changed what it was given
    return _text(record), fields


def _text(record: logging.LogRecord) -> str:
    """What a plain formatter makes of a record; but it leaves nothing in it, where the task's own would find it."""
    try:
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text = f"{text}\n{record.exc_text or _FORMATTER.formatException(record.exc_info)}"
        elif record.exc_text:
            text = f"{text}\n{record.exc_text}"
        return f"{text}\n{record.stack_info}" if record.stack_info else text
    except Exception as error:
        if isinstance(error, RecursionError) or is_interrupt(error):
            raise
        # The record's arguments do not fit, or cannot be shown; the console's handler tells its author.
        return f"{_SHORT.repr(record.msg)} {_SHORT.repr(record.args)}"


_FORMATTER = logging.Formatter()
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 1000


def taker(name: str) -> LogHandler | None:
    """The handler of ours that the records of a logger come to, if they do."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        for handler in logger.handlers:
            if isinstance(handler, LogHandler):
                return handler
        logger = logger.parent if logger.propagate else None
    return None


def _is_celerys_own(record: logging.LogRecord) -> bool:
    """A print on its way to the console, or what ``celery.app.trace`` says of the task from outside."""
    return record.name == REDIRECTED or (record.name == "celery.app.trace" and record.levelno <= logging.INFO)


class ConsoleFilter(logging.Filter):
    """Keeps the log records of tasks off the console, for ``livelog_tee = False``."""

    def __init__(self, handler: LogHandler) -> None:
        super().__init__()
        self._handler = handler

    def filter(self, record: logging.LogRecord) -> bool:
        return not self._handler.take(record)
