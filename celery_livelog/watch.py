"""What a worker's main process sees of its tasks and children, in a journal of its own: the last word when a child is
killed. No network, and nothing here is on the way of a task.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.endings import Ending, Word
from celery_livelog.frames import BEGIN, END, WORD
from celery_livelog.journal import Journal
from celery_livelog.spool import Doorbell, Lock

#: Seconds between two looks for children that were not noticed when they were forked.
_LOOK_SECONDS = 5.0


class Watch:
    """The journal of a main process.

    :raises OSError: when it cannot be opened.
    """

    def __init__(self, directory: Path, budget: int) -> None:
        self._pid = os.getpid()
        name = f"{self._pid}-{secrets.token_hex(4)}"
        self._lock = Lock(directory, name)
        self._lock.take()
        self._doorbell = Doorbell(directory)
        self._journal = Journal(directory, name, budget, self._doorbell.ring)
        self._slots = 0
        self._closing = threading.Event()
        self._forked = threading.Event()
        self._children: threading.Thread | None = None

    @property
    def here(self) -> bool:
        """Whether this is the main process and not a child that was forked from it."""
        return os.getpid() == self._pid

    def say(self, word: Word) -> None:
        """Note what is known of a task or a process."""
        self._journal.append(WORD, 0, 0, 0, (0, 0), msgspec.json.encode(word), force=True)

    def never_began(self, attempt: Attempt, ending: Ending) -> None:
        """Note a task that no process was given to run."""
        self._slots += 1
        begin = msgspec.json.encode({"attempt": attempt, "raw": None})
        for kind, payload in ((BEGIN, begin), (END, msgspec.json.encode(ending))):
            self._journal.append(kind, 0, self._slots, 0, (0, 0), payload, force=True)

    def watch_children(self, pool: Any) -> None:
        """Note from now on how the children of this process end. Harmless when repeated.

        :param pool: Celery's pool of processes.
        """
        _on_exit(getattr(pool, "_pool", None), self._exited)
        if self._children is None and hasattr(os, "waitid"):
            self._children = threading.Thread(target=self._watch_new, name="livelog-children", daemon=True)
            self._children.start()
            os.register_at_fork(after_in_parent=self._forked.set)

    def close(self) -> None:
        """Stop; harmless when done twice, and in a forked child."""
        if self.here and not self._closing.is_set():
            self._closing.set()
            self._forked.set()
            self._journal.close()
            self._lock.release()
            self._doorbell.wake()

    def _watch_new(self) -> None:
        """Give each child a thread that waits for its end. All of them sleep in the kernel until then."""
        watched: set[int] = set()
        while not self._closing.is_set():
            self._forked.clear()
            children = set(_children())
            for child in children - watched:
                threading.Thread(
                    target=self._watch_one, args=(child,), name=f"livelog-child-{child}", daemon=True
                ).start()
            watched = children
            self._forked.wait(_LOOK_SECONDS)

    def _watch_one(self, pid: int) -> None:
        """Wait for the end of a child, and leave it for Celery to wait for too (``WNOWAIT``).

        In the kernel and without the GIL, this wait sees the end before Celery's own can take the child away.
        """
        try:
            end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except OSError:
            return  # no child any more
        if end is not None:
            self._exited(pid, end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)

    def _exited(self, pid: int, exit_code: int) -> None:
        """A child is gone; an exit code below 0 is that of a signal."""
        if not self._closing.is_set():
            self.say(Word(pid=pid, signal=max(0, -exit_code), status=max(0, exit_code)))


def _on_exit(pool: Any, exited: Callable[[int, int], None]) -> None:
    """Have billiard's pool tell of each process that it has waited for: late, up to 5 s, but of all."""
    tell = getattr(pool, "on_process_down", None)
    if tell is None or getattr(tell, "of_livelog", False):
        return

    def on_process_down(process: Any) -> None:
        exited(process.pid, process.exitcode or 0)
        tell(process)

    on_process_down.of_livelog = True  # type: ignore[attr-defined]
    pool.on_process_down = on_process_down


def _children() -> Iterator[int]:
    """The children of this process, where the system can tell (Linux)."""
    try:
        for thread in Path("/proc/self/task").iterdir():
            yield from map(int, (thread / "children").read_text().split())
    except OSError:
        return
