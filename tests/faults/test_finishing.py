"""Finishing is crash-safe: a shipper is killed at any step of it, and the next leaves one log of each task."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.faults.scene import SECONDS, Scene, check
from tests.nodes.valkey import Valkey

_ARCHIVE = "celery_livelog.stores.archive:Archive"
_STREAM = "celery_livelog.stores.stream_writer:StreamWriter"
_PART = "celery_livelog.shipper.parts:Part"
_STEPS = [
    ("celery_livelog.stores.objects:Objects.put", "half", 1),
    ("celery_livelog.stores.objects:Objects.put", "half", 4),
    *((f"{_ARCHIVE}.put_packed", when, number) for when in ("before", "after") for number in (1, 3)),
    (f"{_ARCHIVE}.put_packed", "after", 2),
    *((f"{_ARCHIVE}.put_manifest", when, 3) for when in ("before", "after")),
    *(("celery_livelog.stores.catalog:Catalog.write", when, 1) for when in ("before", "after")),
    *((f"{_STREAM}.send", when, 1) for when in ("before", "after")),
    *((f"{_STREAM}.expire_soon", when, 1) for when in ("before", "after")),
    *((f"{_PART}.note_done", when, number) for when in ("before", "after") for number in (1, 2)),
    *(("celery_livelog.raw_places:delete_raw_files", when, 1) for when in ("before", "after")),
    *((f"{_PART}.close", when, 1) for when in ("before", "after")),
    *(("shutil:rmtree", when, 1) for when in ("before", "after")),
]


@pytest.fixture
def scene(valkey: Valkey, tmp_path: Path) -> Iterator[Scene]:
    """What a killed worker has left, and an empty Valkey."""
    scene = Scene(tmp_path, valkey.url)
    yield scene
    scene.clear()


def test_an_undisturbed_end(scene: Scene, valkey: Valkey) -> None:
    """What the other tests compare with."""
    assert scene.ship().returncode == 0
    check(scene, valkey)


@pytest.mark.parametrize(
    ("target", "when", "number"), _STEPS, ids=[f"{when} {name.split(':')[1]} {n}" for name, when, n in _STEPS]
)
def test_killed_at_each_step(scene: Scene, valkey: Valkey, target: str, when: str, number: int) -> None:
    """The next shipper completes what the killed one had begun."""
    assert scene.ship_and_die(target, when, number)
    ended = scene.ship()
    assert (ended.returncode, ended.stderr.decode()) == (0, "")
    check(scene, valkey)


@pytest.mark.parametrize(
    ("target", "when"), [(f"{_STREAM}.send", "before"), (f"{_STREAM}.send", "after"), (f"{_PART}.note_done", "before")]
)
def test_killed_where_the_stream_stays(valkey: Valkey, tmp_path: Path, target: str, when: str) -> None:
    """Others cannot read the archive of this worker: they see each record once, and the end, in the stream."""
    scene = Scene(tmp_path, valkey.url, archive_url=None)
    try:
        assert scene.ship_and_die(target, when, 1)
        assert scene.ship().returncode == 0
        check(scene, valkey)
    finally:
        scene.clear()


def test_killed_again_and_again_while_it_deletes(scene: Scene, valkey: Valkey) -> None:
    """One shipper after the other, each killed after it has deleted one file."""
    deaths = sum(1 for _ in iter(lambda: scene.ship_and_die("os:unlink", "after", 1), False))
    assert deaths > 5
    check(scene, valkey)


def test_killed_at_each_deletion(valkey: Valkey, tmp_path: Path) -> None:
    """Wherever among its deletions a shipper is killed, the next one leaves nothing."""
    for number in count(1, 2):
        (tmp_path / str(number)).mkdir()
        valkey.client.flushall()
        scene = Scene(tmp_path / str(number), valkey.url)
        try:
            killed = scene.ship_and_die("os:unlink", "before", number)
            assert scene.ship().returncode == 0
            check(scene, valkey)
        finally:
            scene.clear()
        if not killed:
            break
    assert number > 5


def test_three_shippers_at_once(scene: Scene, valkey: Valkey) -> None:
    """One ships; the others see that, and leave."""
    command = [sys.executable, "-m", "celery_livelog.shipper", str(scene.directory)]
    shippers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    said = [shipper.communicate(timeout=SECONDS)[1] for shipper in shippers]
    assert ([shipper.returncode for shipper in shippers], said) == ([0] * 3, [b""] * 3)
    check(scene, valkey)


def test_what_a_reader_sees_meanwhile(scene: Scene, valkey: Valkey) -> None:
    """A log that was complete does not get shorter while a shipper that was killed has it done again."""
    assert scene.ship_and_die(f"{_PART}.note_done", "before", 1)
    complete = scene.archived("long")
    assert scene.ship_and_die(f"{_ARCHIVE}.put_packed", "after", 2)
    assert scene.archived("long") == complete
    assert scene.ship().returncode == 0
    check(scene, valkey)
    assert re.fullmatch(r"[0-9a-f]{16}", scene.manifest("long").attempt.attempt)
