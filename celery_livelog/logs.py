"""Log records of tasks, on their way from `logging` to the journal: once each, with level, logger and traceback."""

from __future__ import annotations

import logging

from celery_livelog.writer import current

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
            writer.log(record.levelname, record.name, self._message(record))
        return not own

    def _message(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception:  # noqa: BLE001 - the record's own arguments do not fit; the console's handler tells its author
            return f"{record.msg!r} {record.args!r}"


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
