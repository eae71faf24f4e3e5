"""Eyes that stay open during a fault: on the keys of a Redis, and on a log as a viewer in another container sees it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_livelog.cursors import Cursor
from celery_livelog.errors import StoreError
from celery_livelog.reader import Reader
from celery_livelog.records import Partial, Record
from celery_livelog.settings import Settings
from tests.nodes.valkey import Valkey

_LOOK_SECONDS = 0.1
_ADMIN = "admin"
#: For `Valkey`: somebody whom no change of passwords and rights shuts out, and settings that faults need.
OPTIONS = ("--user", _ADMIN, "on", "nopass", "~*", "&*", "+@all", "--enable-protected-configs", "yes")


def admin(valkey: Valkey) -> redis.Redis:
    """A client that faults do not shut out, on one connection of its own."""
    return redis.Redis(
        port=valkey.port,
        username=_ADMIN,
        password="any",
        decode_responses=True,
        socket_timeout=1.0,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
    )


class KeyWatcher:
    """Looks at all our keys ten times a second; `eternal` are those that were without a time to live at any look."""

    def __init__(self, valkey: Valkey) -> None:
        self.eternal: set[str] = set()
        self.looks = 0
        self._valkey = valkey
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        client: redis.Redis | None = None
        while not self._done.wait(_LOOK_SECONDS):
            try:
                client = client or admin(self._valkey)
                self._look(client)
            except redis.RedisError:
                client = None
        if client is not None:
            client.close()

    def _look(self, client: redis.Redis) -> None:
        keys = list(client.scan_iter("task:logs:*", count=1000))
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.ttl(key)
        self.eternal.update(key for key, ttl in zip(keys, pipeline.execute(), strict=True) if ttl == -1)
        self.looks += 1


def elsewhere(settings: Settings) -> Settings:
    """The settings of a server in another container: it has the same Redis, but neither archive nor catalog."""
    return replace(settings, archive_url="memory://", database_url=f"sqlite:///{settings.dir}-elsewhere.sqlite3")


class Follower:
    """A viewer that follows a task's log from its start to its end, and comes back to its place as browsers do.

    `records` are what it has seen so far, `breaks` how often it had to come back.
    """

    def __init__(self, settings: Settings, task_id: str) -> None:
        self.records: list[Record] = []
        self.breaks = 0
        self._settings = settings
        self._task_id = task_id
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def n(self) -> int:
        """The number of the last record that it has seen."""
        return self.records[-1].n if self.records else 0

    @property
    def over(self) -> bool:
        """Whether it has come to the end of the log."""
        return not self._thread.is_alive()

    def wait(self, timeout: float) -> None:
        """Wait for the end of the log, at most so many seconds."""
        self._thread.join(timeout)
        assert self.over, f"{self._task_id} did not end within {timeout:g} s in the live view; it is at {self.n}"

    def close(self) -> None:
        if self._thread.is_alive() and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._follow())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    async def _follow(self) -> None:
        reader = Reader(self._settings)
        place: Cursor | None = None
        try:
            while True:
                try:
                    async for batch in reader.log(self._task_id, after=place, follow=True):
                        self.records += batch.records
                        certain = [record for record in batch.records if not isinstance(record, Partial)]
                        place = Cursor(batch.attempt, certain[-1].n) if certain else place
                    return
                except StoreError:
                    self.breaks += 1
                    await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await reader.close()


def read_now(settings: Settings, task_id: str) -> list[Record]:
    """A log as it stands now."""

    async def read() -> list[Record]:
        reader = Reader(settings)
        try:
            return [record async for batch in reader.log(task_id) for record in batch.records]
        finally:
            await reader.close()

    return asyncio.run(read())
