"""What is known of a connection over which a shipper elsewhere speaks."""

from __future__ import annotations

from collections.abc import Callable

from celery_livelog.access.tokens import Writer
from celery_livelog.ingest import writers
from celery_livelog.ingest.owners import Owners

#: Tasks that are remembered.
_REMEMBERED = 10_000


class Known:
    """The tasks that it was found to write, and what it has given to their streams.

    :param writer: tells who it is: its token may change.
    """

    def __init__(self, writer: Callable[[], Writer], owners: Owners) -> None:
        self._writer = writer
        self._owners = owners
        self._tasks: dict[str, int] = {}
        #: The attempts whose records came, by their ids here.
        self.attempts: set[str] = set()

    @property
    def writer(self) -> Writer:
        """Who it is."""
        return self._writer()

    def allow(self, task_id: str, account: str = "") -> None:
        """Have it write a task.

        :raises NotYours: when it may not.
        :raises StoreError: when that cannot be told now.
        """
        writers.check(self.writer, task_id, account)
        if task_id not in self._tasks:
            self._owners.check(self.writer, task_id, account)
            if len(self._tasks) >= _REMEMBERED:
                self._tasks.clear()
            self._tasks[task_id] = 0

    def sent(self, task_id: str, attempt: str, size: int) -> None:
        """So many bytes of an attempt went to the task's stream."""
        self.attempts.add(attempt)
        self._tasks[task_id] = self._tasks.get(task_id, 0) + size

    def size(self, task_id: str) -> int:
        """The bytes that went to a task's stream."""
        return self._tasks.get(task_id, 0)
