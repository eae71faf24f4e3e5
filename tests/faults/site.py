"""A worker whose livelog reaches its Redis through a proxy, with a broker of its own that no fault touches."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import redis
from celery.result import AsyncResult

from celery_livelog.records import Record
from tests.faults.chatter import Notes
from tests.faults.proxy import Proxy
from tests.faults.watchers import OPTIONS, Follower, KeyWatcher, admin, elsewhere, read_now
from tests.nodes.process import LocalProcess
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.worker import Worker

P = TypeVar("P", bound=LocalProcess)

_SHARED_MEMORY = Path("/dev/shm")


@dataclass(eq=False)
class Talk:
    """A running `chatter`, its notes, and who follows it."""

    task_id: str
    notes: Notes
    result: AsyncResult
    fails: bool
    followers: list[Follower] = field(default_factory=list)


class Site:
    """The worker and all around it; everything is in `directory`, and `close` ends what was started."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self._ends = ExitStack()
        self._names = itertools.count(1)
        self._talks: list[Talk] = []
        self._pids: set[int] = set()
        self._before = set(_SHARED_MEMORY.glob("livelog-*"))
        try:
            self._open(**settings)
        except BaseException:
            self.close()
            raise

    def _open(self, **settings: Any) -> None:
        directory = self.directory
        self.broker = self.launch(Valkey(directory, name="broker"))
        self.live = self.launch(Valkey(directory, OPTIONS, name="live"))
        self.proxy = Proxy(self.live.port)
        self._ends.callback(self.proxy.close)
        self.keys = KeyWatcher(self.live)
        self._ends.callback(self.keys.close)
        self.project = Project(directory / "project", self.broker.url)
        self._ends.callback(self.project.close)
        self.project.configure(livelog_redis_url=f"redis://127.0.0.1:{self.proxy.port}/0", **settings)

    def start_worker(self, concurrency: int = 2) -> Worker:
        """Start the worker."""
        self.worker = self.launch(Worker(self.project, concurrency=concurrency))
        return self.worker

    @property
    def admin(self) -> redis.Redis:
        """A client of the live Redis that faults do not shut out, on a connection of its own."""
        client = admin(self.live)
        self._ends.callback(client.close)
        return client

    @property
    def shipper(self) -> psutil.Process:
        """The shipper that the worker has started."""
        family = psutil.Process(self.worker.pid).children(recursive=True)
        (found,) = [process for process in family if "celery_livelog.shipper" in process.cmdline()]
        return found

    def talk(self, *, fail: bool = False, pause: float = 0.005, follow: bool = True, task_id: str = "") -> Talk:
        """Have the worker run a chatter, followed from elsewhere."""
        number = next(self._names)
        notes = Notes(self.directory / f"notes-{number}")
        task_id = task_id or f"chatter-{number}"
        result = self.project.send("chatter", str(notes.path), pause, fail, task_id=task_id)
        talk = Talk(task_id, notes, result, fail)
        self._talks.append(talk)
        if follow:
            talk.followers.append(self.follow(talk))
        return talk

    def follow(self, talk: Talk) -> Follower:
        """Follow a talk in another container."""
        follower = Follower(elsewhere(self.project.settings), talk.task_id)
        self._ends.callback(follower.close)
        return follower

    def said(self, since: int = 0) -> list[str]:
        """What livelog has said on the worker's console after its first `since` messages."""
        mark = "celery-livelog: "
        return [line.partition(mark)[2] for line in self.worker.output().splitlines() if mark in line][since:]

    def seen_elsewhere(self, task_id: str) -> list[Record]:
        """A log as it stands in Redis alone."""
        return read_now(elsewhere(self.project.settings), task_id)

    def stop_worker(self) -> int:
        """Stop the worker as a service manager does; give its exit code."""
        family = psutil.Process(self.worker.pid).children(recursive=True)
        self._pids |= {process.pid for process in family}
        return self.worker.stop(60)

    def left(self) -> list[str]:
        """What the worker's processes have left in the spool and in shared memory; nothing once it has stopped."""
        spool = Path(self.project.settings.spool_dir)
        pids = self._pids | {talk.notes.pid for talk in self._talks}
        raw = [path for path in set(_SHARED_MEMORY.glob("livelog-*")) - self._before if _pid(path) in pids]
        return sorted(str(path) for path in [*spool.rglob("*"), *raw])

    def close(self) -> None:
        for talk in self._talks:
            talk.notes.stop()  # else the worker would wait for it
        self._ends.close()

    def launch(self, process: P) -> P:
        """Start a process; it ends with the site."""
        self._ends.callback(process.end)
        process.start()
        return process


def _pid(raw_file: Path) -> int:
    """The process that a raw file is of."""
    return int(raw_file.name.split("-")[1])
