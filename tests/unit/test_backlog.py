"""The backlog: what is put comes out in order, little of it waits in memory, and a full disk costs nothing but that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.shipper import backlog
from celery_livelog.shipper.backlog import Backlog
from tests.unit import children


def take_all(of: Backlog) -> list[bytes]:
    """Take what is there."""
    found = []
    while True:
        try:
            found.append(of.first())
        except IndexError:
            return found
        of.drop()


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.waiting"))


@given(steps=st.lists(st.one_of(st.binary(max_size=40), st.integers(1, 5)), max_size=80))
def test_first_in_first_out(steps: list[bytes | int], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is put and taken in whatever turns; of all that waits no more than the limit is in memory."""
    queue, expected = Backlog(tmp_path_factory.mktemp("spool"), "x", limit=100), list[bytes]()
    for step in steps:
        if isinstance(step, bytes):
            queue.put(step)
            expected.append(step)
            assert queue.held <= max(100, sum(map(len, expected)) - len(step))
        for _ in range(step if isinstance(step, int) else 0):
            if expected:
                assert queue.first() == expected.pop(0)
                queue.drop()
    assert take_all(queue) == expected
    assert queue.held == 0
    queue.close()


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Beyond the limit all waits in files, which only its owner can read and which are gone when they are read."""
    queue = Backlog(tmp_path, "x", limit=1_000_000)
    given = [os.urandom(100_000) for _ in range(200)]
    for item in given:
        queue.put(item)
        assert queue.held <= 1_000_000
    assert [path.stat().st_size > 8_000_000 for path in files(tmp_path)] == [True, True, False]
    assert {path.stat().st_mode & 0o777 for path in files(tmp_path)} == {0o600}
    assert take_all(queue) == given
    assert files(tmp_path) == []


def test_what_a_killed_shipper_has_left_is_deleted(tmp_path: Path) -> None:
    """It is in the journals, too."""
    left = Backlog(tmp_path, "x", limit=0)
    left.put(b"something")
    assert files(tmp_path)
    assert take_all(Backlog(tmp_path, "x")) == []
    assert files(tmp_path) == []


def test_closing_deletes_the_files(tmp_path: Path) -> None:
    queue = Backlog(tmp_path, "x", limit=0)
    queue.put(b"something")
    queue.close()
    assert files(tmp_path) == []


def test_files_that_somebody_deletes(tmp_path: Path) -> None:
    """What waits is there all the same."""
    queue = Backlog(tmp_path, "x", limit=0)
    for item in (b"one", b"two"):
        queue.put(item)
    for path in files(tmp_path):
        path.unlink()
    assert take_all(queue) == [b"one", b"two"]


def test_a_link_in_its_way_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written where somebody else wants it: it stays in memory."""
    monkeypatch.setattr("celery_livelog.errors._last_said", {})
    queue = Backlog(tmp_path, "x", limit=0)
    (tmp_path / "target").touch()
    (tmp_path / "x.000001.waiting").symlink_to(tmp_path / "target")
    queue.put(b"secret")
    assert (tmp_path / "target").read_bytes() == b""
    assert take_all(queue) == [b"secret"]


@pytest.mark.parametrize("write", [lambda fd, data: fail(), lambda fd, data: real(fd, data[: len(data) // 2])])
def test_a_disk_that_is_full_and_has_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., Any], capfd: Any
) -> None:
    """While it takes nothing, or only a part, all is kept in memory, in order; later it is written after all."""
    monkeypatch.setattr("celery_livelog.errors._last_said", {})
    queue = Backlog(tmp_path, "x", limit=10)
    given = [bytes([65 + number]) * 10 for number in range(20)]
    for item in given[:5]:
        queue.put(item)
    monkeypatch.setattr(backlog.os, "write", write)
    for item in given[5:10]:
        queue.put(item)
    assert queue.held == 60
    monkeypatch.undo()
    for item in given[10:]:
        queue.put(item)
    assert queue.held == 10
    assert take_all(queue) == given
    assert capfd.readouterr().err.count("stays in memory") == 1


real = os.write


def fail() -> int:
    raise OSError(28, "No space left on device")


def test_a_limit_on_the_size_of_files() -> None:
    """A real short write: what the limit cut off is not read as an item, and nothing is lost."""
    said = children.run(
        """
        import pathlib, resource, tempfile
        from celery_livelog.shipper.backlog import Backlog

        directory = pathlib.Path(tempfile.mkdtemp())
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))
        queue = Backlog(directory, "x", limit=0)
        given = [bytes([number]) * 1000 for number in range(7)]
        for item in given:
            queue.put(item)
        print(queue.held)
        for item in given:
            assert queue.first() == item
            queue.drop()
        directory.rmdir()
        """
    )
    assert said == "5000\n"
