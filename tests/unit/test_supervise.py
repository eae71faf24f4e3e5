"""The shipper is started, started again when it dies or hangs, and given its time at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from celery_livelog import spool
from celery_livelog.settings import Settings
from celery_livelog.shipper import supervise
from celery_livelog.shipper.supervise import ProcessSupervisor, Supervisor, ThreadSupervisor, supervisor
from celery_livelog.stores.catalog import Catalog
from tests.nodes.waiting import wait_for
from tests.unit import children
from tests.unit.journals import ENDING, begin, open_journal


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings without a Redis, with everything in `tmp_path`."""
    return Settings.from_conf({"livelog_dir": str(tmp_path)})


@pytest.fixture
def directory(settings: Settings) -> Path:
    """The worker's spool directory."""
    return spool.create(settings.spool_dir)


@pytest.fixture
def supervised(directory: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessSupervisor]:
    """A supervisor of a shipper process that looks often."""
    monkeypatch.setattr(supervise, "_LOOK_SECONDS", 0.05)
    started = ProcessSupervisor(directory, settings)
    started.start()
    yield started
    started.drain()


def shippers(directory: Path) -> list[psutil.Process]:
    """The shippers of a directory that were started here and live."""
    return [child for child in psutil.Process().children() if str(directory) in command_of(child)]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()  # type: ignore[no-any-return]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def goes_round(directory: Path) -> bool:
    """Whether a shipper has begun its work."""
    doorbell = spool.Doorbell(directory)
    pulse = doorbell.pulse()
    doorbell.close()
    return pulse > 0


def print_something(directory: Path) -> None:
    """What a worker's process leaves that was killed after its task had ended."""
    journal = open_journal(directory)
    writer = begin(journal)
    writer.write(1, "printed\n")
    writer.end(ENDING)
    journal.close()


def archived(settings: Settings) -> list[tuple[str, int]]:
    """State and lines of the attempts that the catalog has as archived."""
    catalog = Catalog(settings.database_url)
    found = [(attempt.state, attempt.lines) for attempt in catalog.recent(10) if attempt.archive]
    catalog.close()
    return found


def test_a_shipper_ships_and_leaves(supervised: ProcessSupervisor, directory: Path, settings: Settings) -> None:
    """What is in the journals is archived; at the end it goes by itself, and leaves no file behind.

    Its settings, which hold passwords, are in a file and not in its command line, which all users of the host see.
    """
    (shipper,) = shippers(directory)
    assert shipper.cmdline()[-1] == str(directory)
    assert Settings.from_json((directory / spool.SETTINGS).read_bytes()) == settings
    print_something(directory)
    supervised.drain()
    supervised.drain()
    wait_for(lambda: not shipper.is_running() or shipper.status() == psutil.STATUS_ZOMBIE)
    assert archived(settings) == [("SUCCESS", 1)]
    assert not directory.exists()


def test_a_dead_shipper_is_replaced(supervised: ProcessSupervisor, directory: Path, settings: Settings) -> None:
    """Another takes over what the dead one has left."""
    (first,) = shippers(directory)
    first.kill()
    wait_for(lambda: [shipper for shipper in shippers(directory) if shipper.pid != first.pid])
    print_something(directory)
    supervised.drain()
    assert archived(settings) == [("SUCCESS", 1)]


def test_a_hung_shipper_is_replaced(
    supervised: ProcessSupervisor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not go round any more is killed; one that goes round is left alone, however quiet the worker is."""
    (first,) = shippers(directory)
    wait_for(lambda: goes_round(directory))
    monkeypatch.setattr(supervise, "_HUNG_SECONDS", 1.0)
    first.suspend()
    (second,) = wait_for(lambda: [shipper for shipper in shippers(directory) if shipper.pid != first.pid])
    monkeypatch.setattr(supervise, "_HUNG_SECONDS", 30.0)
    assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE
    assert second.is_running()


def test_a_leaking_shipper_is_replaced(
    supervised: ProcessSupervisor, directory: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes too much memory is killed; another takes over what it has left."""
    (first,) = shippers(directory)
    print_something(directory)
    monkeypatch.setattr(supervise, "_LEAKING_BYTES", 1024 * 1024)
    wait_for(lambda: [shipper for shipper in shippers(directory) if shipper.pid != first.pid])
    monkeypatch.setattr(supervise, "_LEAKING_BYTES", 1 << 30)
    supervised.drain()
    assert archived(settings) == [("SUCCESS", 1)]


def test_a_forked_child_does_not_end_it(directory: Path, settings: Settings) -> None:
    """A child of the worker that leaves through its exit handlers leaves the shipper to its parent."""
    children.run(
        """
        import os, sys
        from pathlib import Path
        from celery_livelog import spool
        from celery_livelog.settings import Settings
        from celery_livelog.shipper.supervise import ProcessSupervisor

        directory = Path(sys.argv[1])
        supervisor = ProcessSupervisor(directory, Settings.from_json(sys.argv[2].encode()))
        supervisor.start()
        pid = os.fork()
        if not pid:
            supervisor.drain()
            os._exit(0 if spool.held(directory, spool.WORKER) else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert supervisor._shipper.poll() is None
        supervisor.drain()
        assert supervisor._shipper.returncode == 0
        """,
        directory,
        settings.to_json().decode(),
    )


def test_in_a_thread(directory: Path, settings: Settings) -> None:
    """For eager tasks and tiny containers: the same, without another process."""
    started: Supervisor = ThreadSupervisor(directory, settings)
    started.start()
    print_something(directory)
    started.drain()
    assert archived(settings) == [("SUCCESS", 1)]
    assert not directory.exists()


def test_the_setting_says_which(directory: Path, settings: Settings) -> None:
    """``livelog_shipper`` is a process unless it is set to "thread"."""
    assert isinstance(supervisor(directory, settings), ProcessSupervisor)
    threaded = msgspec.json.decode(settings.to_json()) | {"shipper": "thread"}
    assert isinstance(supervisor(directory, Settings.from_json(msgspec.json.encode(threaded))), ThreadSupervisor)
