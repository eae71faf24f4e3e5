"""A worker whose logs go to a relay: the same logs as with a Redis, whatever befalls the connection and both ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from celery_livelog.environment import settings_of
from celery_livelog.reader import Reader
from celery_livelog.records import Record, StageComplete
from tests.faults.chatter import Notes
from tests.faults.oracle import complete, judge
from tests.faults.proxy import Mode, Proxy
from tests.faults.watchers import Follower, elsewhere, read_now
from tests.nodes import logs
from tests.nodes.ingest import IngestRelay, token
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker


class Far:
    """A relay with its stores, and a worker that reaches it only through a proxy."""

    def __init__(self, valkey: Valkey, directory: Path) -> None:
        environment = {"LIVELOG_REDIS_URL": valkey.url, "LIVELOG_DIR": str(directory / "relay")}
        self.settings = settings_of(environment)
        self.directory = directory
        self.relay = IngestRelay(directory, environment)
        self.relay.start()
        self.proxy = Proxy(self.relay.port)
        self.project = Project(directory / "project", valkey.url)
        self.project.configure(
            livelog_maxlen=500,
            livelog_transport=f"ws://127.0.0.1:{self.proxy.port}/ingest",
            livelog_transport_token=(directory / "token").as_uri(),
        )
        self.allow(account="acme")
        self.worker = Worker(self.project)
        self.worker.start()

    def allow(self, **what: Any) -> None:
        """Lay down the worker's token."""
        (self.directory / "token").write_text(token("far", **what) + "\n")

    def talk(self, task_id: str) -> tuple[Notes, Follower]:
        """Have the worker run a chatter, and follow it at the relay."""
        notes = Notes(self.directory / f"notes-{task_id}")
        self.project.send("chatter", str(notes.path), 0.005, False, task_id=task_id)
        return notes, Follower(self.settings, task_id)

    def archived(self, task_id: str) -> list[Record]:
        """The whole log, once it is archived at the relay."""

        async def asked() -> list[Record] | None:
            reader = Reader(self.settings)
            try:
                attempts = await reader.attempts(task_id)
                if not attempts or not all(attempt.ended and attempt.archive for attempt in attempts):
                    return None
                assert [attempt.account for attempt in attempts] == ["acme"]
                return [record async for batch in reader.log(task_id) for record in batch.records]
            finally:
                await reader.close()

        return wait_for(lambda: asyncio.run(asked()), what=f"the archive of {task_id}") or []

    @property
    def shipper(self) -> psutil.Process:
        family = psutil.Process(self.worker.pid).children(recursive=True)
        (found,) = [process for process in family if "celery_livelog.shipper" in process.cmdline()]
        return found

    def close(self) -> None:
        self.worker.end()
        self.project.close()
        self.proxy.close()
        self.relay.end()


@pytest.fixture(scope="module")
def far(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    valkey_server.client.flushall()
    far = Far(valkey_server, tmp_path_factory.mktemp("far"))
    try:
        yield far
    finally:
        far.close()


def test_the_same_log_as_with_a_redis(far: Far) -> None:
    """Lines of all kinds, stages and how it ended are in the relay's stores; nothing is in the worker's own."""
    sent = [far.project.send(name) for name in ("staged", "log", "fail")]
    long = far.project.send("number_lines", 6000)
    staged, logged, failed = (far.archived(result.id) for result in sent)
    assert logs.lines(staged, "stdout") == ["item 1", "item 2", "item 3", "compiling"]
    assert next(record.result for record in staged if isinstance(record, StageComplete))["credits"] == 1.5
    assert logs.lines(logged, "log")[:2] == ["from the root logger", "from a library"]
    assert (logs.end(failed).state, logs.end(failed).exit_code) == ("FAILURE", 1)
    assert logs.lines(far.archived(long.id)) == [str(number) for number in range(1, 6001)]
    own = Path(far.project.settings.dir)
    assert not (own / "archive").exists()
    assert not (own / "catalog.sqlite3").exists()
    assert "only archived" not in far.worker.output()


def live_again(notes: Notes, follower: Follower) -> None:
    """Wait until what is printed now is seen."""
    printed = notes.done
    wait_for(lambda: follower.n > printed, what="a live view")


def finish(far: Far, task_id: str, notes: Notes, follower: Follower) -> None:
    """Let a talk be live again and come to its end, and judge it."""
    live_again(notes, follower)
    notes.stop()
    assert complete(far.archived(task_id), notes.done).wrong == []
    wait_for(lambda: follower.over)
    assert judge(follower.records, notes.done).wrong == []
    follower.close()


def test_a_connection_that_is_lost(far: Far) -> None:
    """The task goes on; what it prints arrives later: live what there is room for, in the archive all of it."""
    notes, follower = far.talk("lost")
    for mode in (Mode.REFUSE, Mode.BLACKHOLE):
        live_again(notes, follower)
        at = notes.done
        far.proxy.mode = mode
        wait_for(lambda at=at: notes.done > at + 1000, what="a task that goes on")  # type: ignore[misc]
        far.proxy.mode = Mode.PASS
    finish(far, "lost", notes, follower)
    live = judge(read_now(elsewhere(far.settings), "lost"), notes.done)
    assert live.wrong == []
    assert live.skipped > 0


def test_either_end_is_killed(far: Far) -> None:
    """The next shipper and the next relay go on where those before them stood."""
    notes, follower = far.talk("killed")
    wait_for(lambda: follower.n > 100, what="a live view")
    shipper = far.shipper
    shipper.send_signal(signal.SIGKILL)
    shipper.wait(10)
    far.relay.kill()
    far.relay.start()
    finish(far, "killed", notes, follower)


def test_a_token_that_does_not_cover_a_task(far: Far) -> None:
    """Its log is nowhere, which is said; the others are not held up. With another token in the file, it is taken."""
    far.allow(prefix="ours-")
    far.proxy.mode = Mode.REFUSE
    far.proxy.mode = Mode.PASS
    far.project.run("print_lines", 2, task_id="theirs-1")
    far.project.run("print_lines", 2, task_id="ours-1")
    far.worker.wait_for_output("celery-livelog: the log of theirs-1 is not archived")
    assert "the token does not cover task 'theirs-1'" in far.worker.output()
