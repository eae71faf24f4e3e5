"""What a worker answers, by Celery's remote control, to those who read its archive from elsewhere.

Its main process does, between two tasks that it takes from the broker: so each answer is one short read of a file,
there are only so many a second, and nothing is imported for it that starts threads. Rules:
- only what lies in the worker's own archive, under a path that the archive's own functions make of ids and numbers;
- only while that archive is the worker's own: one that was configured is read where it lies.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from pathlib import Path
from time import monotonic
from typing import Any

from celery_livelog.errors import LivelogError, said
from celery_livelog.settings import Settings
from celery_livelog.stores.manifest import attempt_path, folder_of

COMMAND = "livelog_read"
#: Bytes of one answer at most.
MOST_BYTES = 128 * 1024
#: Answers a second, on average, and at once after a while of none: 6 MiB, which take the process 40 ms.
_A_SECOND, _AT_ONCE = 50.0, 100.0

_ATTEMPT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME = re.compile(r"manifest\.json|[1-9][0-9]{0,18}\.jsonl\.zst")
_LONGEST_TASK_ID = 4096


class Serving:
    """Reads for others from the archive in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left, self._at = _AT_ONCE, monotonic()

    def answer(self, task_id: object, attempt: object, name: object, start: object, end: object) -> dict[str, Any]:
        """The bytes from `start` to before `end` of a segment or the manifest of an attempt, `MOST_BYTES` at most.

        Of a file that is not there, `absent`; when too much was asked of late, `busy`; else also how long the file is,
        and `at`, which changes when another takes its place.
        """
        path = self._path(task_id, attempt, name)
        first, last = _number(start, "start"), _number(end, "end")
        if not self._is_free():
            return {"busy": True}
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return {"absent": True}
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return {"absent": True}
            data = os.pread(fd, max(0, min(last - first, MOST_BYTES)), first)
        finally:
            os.close(fd)
        return {"size": status.st_size, "at": status.st_mtime_ns, "data": base64.b64encode(data).decode()}

    def _path(self, task_id: object, attempt: object, name: object) -> Path:
        if not isinstance(task_id, str) or not 0 < len(task_id) <= _LONGEST_TASK_ID:
            raise _Unusable("task_id", "the id of a task")
        if not isinstance(attempt, str) or not _ATTEMPT.fullmatch(attempt):
            raise _Unusable("attempt", "the id of an attempt")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _Unusable("name", "that of a segment or manifest.json")
        return self._folder / attempt_path(task_id, attempt) / name

    def _is_free(self) -> bool:
        """Whether one more answer is due; then it is counted."""
        now = monotonic()
        self._left, self._at = min(_AT_ONCE, self._left + (now - self._at) * _A_SECOND), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Unusable(LivelogError):
    def __init__(self, what: str, expected: str) -> None:
        super().__init__(f"{what} cannot be used; expected {expected}")


def serve(settings: Settings) -> None:
    """Answer from now on, if the archive is the worker's own. Harmless when done twice."""
    from celery.worker.control import Panel  # late: only workers have it loaded

    if settings.archive_shared or not settings.archive_url.startswith("file:"):
        return
    serving = Serving(folder_of(settings.archive_url))

    def livelog_read(state: Any, **asked: Any) -> dict[str, Any]:
        """Read from the archive of task logs on this worker's disk."""
        try:
            return serving.answer(*(asked.get(key) for key in ("task_id", "attempt", "name", "start", "end")))
        except LivelogError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - Celery would log a traceback for each question
            return {"error": said(error)}

    Panel.register(livelog_read, name=COMMAND, type="inspect", visible=False)


def withdraw() -> None:
    """Answer no more."""
    from celery.worker.control import Panel

    Panel.data.pop(COMMAND, None)
    Panel.meta.pop(COMMAND, None)


def _number(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise _Unusable(what, "a number of bytes, 0 or more")
    return value
