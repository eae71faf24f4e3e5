"""An archive that lies, waits, refuses, is full or vanishes: nothing is said to be archived, and later all is."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from celery_livelog.stores.catalog import Catalog
from tests.faults.scene import SECONDS, Scene, check
from tests.nodes.bucket import Bucket
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An honest S3 bucket, to which this process and those that it starts are led."""
    bucket = Bucket()
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    yield bucket
    bucket.close()


class Shipping:
    """A shipper at work on what a killed worker has left."""

    def __init__(self, scene: Scene, limit: int = resource.RLIM_INFINITY) -> None:
        command = [sys.executable, "-m", "celery_livelog.shipper", str(scene.directory)]
        self.scene = scene
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the shipper runs
        self._process = subprocess.Popen(command, stderr=self._errors)
        self.limit_files(limit)

    @property
    def said(self) -> str:
        """What it has told the console until now."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode()

    def limit_files(self, size: int) -> None:
        """Let no file of it grow beyond a size, as if its disk were full."""
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def nothing_is_archived(self) -> bool:
        """Whether no log is said to be archived, and what the logs are made from is still there."""
        catalog = Catalog(self.scene.settings.database_url)
        rows = [row for task_id in self.scene.tasks() for row in catalog.attempts(task_id)]
        catalog.close()
        journals = list(self.scene.directory.glob("*.journal"))
        return self._process.poll() is None and len(journals) == 1 and not any(row.archive for row in rows)

    def end(self) -> str:
        """Wait for its end; give what it said."""
        assert self._process.wait(SECONDS) == 0
        return self.said

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()
        self.scene.clear()


@pytest.fixture
def ship(valkey: Valkey, tmp_path: Path) -> Iterator[Callable[..., Shipping]]:
    """Lay a scene out and start a shipper; see `Scene`."""
    started: list[Shipping] = []

    def start(archive_url: str = "", size: int = 0, limit: int = resource.RLIM_INFINITY) -> Shipping:
        started.append(Shipping(Scene(tmp_path, valkey.url, archive_url, size), limit))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def drop(data: bytes) -> None:
    return None


def truncate(data: bytes) -> bytes:
    return data[:-1]


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize("lie", [drop, truncate, flip])
def test_a_store_that_lies(
    ship: Callable[..., Shipping], bucket: Bucket, valkey: Valkey, lie: Callable[[bytes], bytes | None]
) -> None:
    """It acknowledges what it does not keep: that is noticed each time, until it has become honest."""
    bucket.lie = lie
    shipping = ship(bucket.url)
    wait_for(lambda: bucket.puts >= 3)
    assert shipping.nothing_is_archived()
    assert "manifest" not in str(bucket.objects)
    bucket.lie = lambda data: data
    said = shipping.end()
    assert said.count("the archive cannot be written (") == 1
    check(shipping.scene, valkey)


def test_a_store_that_lies_about_every_other(ship: Callable[..., Shipping], bucket: Bucket, valkey: Valkey) -> None:
    """Each segment and manifest is put as often as it takes."""
    bucket.lie = lambda data: data if bucket.puts % 2 else None
    shipping = ship(bucket.url)
    shipping.end()
    check(shipping.scene, valkey)
    assert bucket.puts >= 15


@pytest.mark.parametrize("status", [403, 503])
def test_a_store_that_refuses(ship: Callable[..., Shipping], bucket: Bucket, valkey: Valkey, status: int) -> None:
    """Rights that are missing, or an overload: as long as that lasts."""
    bucket.refuse = status
    shipping = ship(bucket.url)
    wait_for(lambda: bucket.refused >= 2)
    assert shipping.nothing_is_archived()
    bucket.refuse = 0
    shipping.end()
    check(shipping.scene, valkey)


def test_a_store_that_hangs(ship: Callable[..., Shipping], bucket: Bucket, valkey: Valkey) -> None:
    """The other stores do not wait for it: live logs have their ends."""
    bucket.prompt.clear()
    shipping = ship(bucket.url)
    wait_for(lambda: valkey.client.xlen("task:logs:short") == 3)
    wait_for(lambda: bucket.puts)
    assert shipping.nothing_is_archived()
    bucket.prompt.set()
    shipping.end()
    check(shipping.scene, valkey)


def test_a_folder_that_cannot_be_written(ship: Callable[..., Shipping], valkey: Valkey, tmp_path: Path) -> None:
    """Something is in its way, for as long as that is."""
    (tmp_path / "archive").write_text("a file where a folder should be")
    shipping = ship()
    wait_for(lambda: valkey.client.xlen("task:logs:short") == 3)
    wait_for(lambda: shipping.said.count("the archive cannot be written ("))
    assert shipping.nothing_is_archived()
    (tmp_path / "archive").unlink()
    assert shipping.end().count("the archive cannot be written (") == 1
    check(shipping.scene, valkey)


def test_a_full_disk(ship: Callable[..., Shipping], valkey: Valkey) -> None:
    """The disk of archive, catalog and spool takes no more: the shipper neither ends nor loses anything."""
    shipping = ship(size=300_000, limit=1000)
    wait_for(lambda: valkey.client.exists("task:logs:short"))
    assert shipping.nothing_is_archived()
    shipping.limit_files(resource.RLIM_INFINITY)
    shipping.end()
    check(shipping.scene, valkey)


def test_an_archive_that_is_emptied_in_the_middle(
    ship: Callable[..., Shipping], bucket: Bucket, valkey: Valkey
) -> None:
    """Segments that were put before are gone at the end of a log: it is taken from its journal once more."""

    def empty(data: bytes) -> bytes:
        if bucket.puts == 5:
            bucket.objects.clear()
        return data

    bucket.lie = empty
    shipping = ship(bucket.url)
    assert shipping.end().count("the archive has lost what it had taken") == 1
    check(shipping.scene, valkey)
