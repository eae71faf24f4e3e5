"""The spool directory: private, its locks tell who lives, its doorbell wakes and never blocks."""

from __future__ import annotations

import os
import select
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from celery_livelog import raw_places, spool
from celery_livelog.errors import SpoolError
from celery_livelog.spool import Doorbell, Lock
from tests.unit import children


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A new spool directory."""
    return spool.create(str(tmp_path / "spool"))


def rung(doorbell: Doorbell) -> bool:
    """Whether somebody has rung."""
    poll = select.poll()
    poll.register(doorbell.fifo, select.POLLIN)
    return bool(poll.poll(0))


def test_a_directory_of_its_own(tmp_path: Path) -> None:
    """Each worker has its own below the root, which nobody else may look into, whatever the umask."""
    before = os.umask(0)
    try:
        made = [spool.create(str(tmp_path / "deep" / "spool")) for _ in range(2)]
    finally:
        os.umask(before)
    assert made[0] != made[1]
    assert {path.parent for path in made} == {tmp_path / "deep" / "spool"}
    for path in (*made, made[0].parent, made[0].parent.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made[0].iterdir()} == {0o600}
    assert f"-{os.getpid()}-" in made[0].name
    assert stat.S_ISFIFO((made[0] / "doorbell").stat().st_mode)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_root_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever can write there could plant what we open; the error says what to do."""
    root = tmp_path / "spool"
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(SpoolError, match="set livelog_dir or livelog_spool_dir") as caught:
        spool.create(str(root))
    assert str(root) in str(caught.value)
    assert list(root.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("planted", ["link", "directory"])
def test_a_root_that_another_user_has_planted_is_refused(tmp_path: Path, planted: str) -> None:
    """As in a directory like /tmp, where others may make what does not exist yet; also when it leads to our own."""
    own, root = tmp_path / "own", tmp_path / "spool"
    own.mkdir(mode=0o700)
    if planted == "link":
        root.symlink_to(own)
    else:
        root.mkdir(mode=0o700)
    os.chown(root, 65534, 65534, follow_symlinks=False)
    with pytest.raises(SpoolError, match="not this user's"):
        spool.create(str(root))
    assert list(own.iterdir()) == []


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    """Who has more room on another disk may say so with a link."""
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "spool").symlink_to(tmp_path / "disk")
    assert spool.create(str(tmp_path / "spool")).parent == tmp_path / "spool"
    assert len(list((tmp_path / "disk").iterdir())) == 1


@pytest.mark.parametrize("name", ["process.lock", "doorbell", "awake"])
def test_links_are_not_followed(directory: Path, tmp_path: Path, name: str) -> None:
    """Nothing of ours is opened through a link that stands in its place."""
    (directory / name).unlink(missing_ok=True)
    (directory / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        Lock(directory, "process") if name == "process.lock" else Doorbell(directory)
    assert not (tmp_path / "elsewhere").exists()


def test_closing_descriptors_frees_no_lock(directory: Path) -> None:
    """A lock is its process', not a descriptor's: closing all, forking and closing there, changes nothing."""
    children.run(
        """
        import os, sys
        from pathlib import Path
        from celery_livelog.spool import Doorbell, Lock, held

        directory = Path(sys.argv[1])
        lock, bell = Lock(directory, "process"), Doorbell(directory)
        assert lock.take()
        os.closerange(3, 4096)
        assert held(directory, "process")
        pid = os.fork()
        if not pid:
            lock.release()
            os._exit(0 if held(directory, "process") else 1)
        assert os.waitpid(pid, 0)[1] == 0
        bell.wake()
        assert os.read(bell.fifo, 10) == b"!"
        lock.release()
        assert not held(directory, "process")
        """,
        directory,
    )


def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    """One line that names the directory, no traceback of ours."""
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="cannot be used") as caught:
        spool.create(str(tmp_path / "file" / "spool"))
    assert "\n" not in str(caught.value)


def test_settings_are_for_the_owner_only(directory: Path) -> None:
    """They hold passwords."""
    spool.keep_settings(directory, b"first, and longer")
    spool.keep_settings(directory, b"second")
    path = directory / spool.SETTINGS
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_raw_files_go_wherever_they_lie(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the process that is gone, in shared memory and in the spool, and nobody else's."""
    shared = tmp_path / "shm"
    shared.mkdir()
    monkeypatch.setattr(raw_places, "SHARED_MEMORY", shared)
    for place in (shared, directory):
        for process in ("12-ab", "123-ab"):
            raw_places.raw_path(place, process, "1.stdout").touch()
    raw_places.delete_raw_files(directory, "12-ab")
    assert [path.name for path in shared.iterdir()] == ["livelog-123-ab-1.stdout"]
    assert [path.name for path in directory.glob("livelog-*")] == ["livelog-123-ab-1.stdout"]


def test_a_lock_says_that_its_process_lives(directory: Path) -> None:
    """Held as long as the process is there, also a frozen one; a kill frees it; nobody else can take it meanwhile."""
    code = """
import sys
from pathlib import Path
from celery_livelog.spool import Lock

lock = Lock(Path(sys.argv[1]), "process")
assert lock.take()
print("taken", flush=True)
sys.stdin.read()
"""
    assert not spool.held(directory, "process")
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"taken\n"
    assert spool.held(directory, "process")
    other = Lock(directory, "process")
    assert not other.take()
    other.release()
    holder.kill()
    holder.communicate()
    assert not spool.held(directory, "process")
    again = Lock(directory, "process")
    assert again.take()
    again.release()
    again.release()


def test_forked_children_do_not_hold_the_lock(directory: Path) -> None:
    """A child that outlives its process does not keep it alive, and its own end does not make it seem dead."""
    children.run(
        """
        import os, subprocess, sys
        from pathlib import Path
        from celery_livelog.spool import Lock

        directory = Path(sys.argv[1])
        lock = Lock(directory, "process")
        assert lock.take()
        asking = "import sys; from pathlib import Path; from celery_livelog import spool; "
        asking += "sys.exit(spool.held(Path(sys.argv[1]), 'process'))"
        pid = os.fork()
        if not pid:
            lock.release()
            os._exit(0)
        os.waitpid(pid, 0)
        held = subprocess.run([sys.executable, "-c", asking, str(directory)]).returncode
        assert held == 1
        """,
        directory,
    )


def test_it_rings_only_for_one_who_sleeps(directory: Path) -> None:
    """While the shipper is awake an append costs no system call; when it dozes, the first one wakes it."""
    shipper, process = Doorbell(directory), Doorbell(directory)
    process.ring()
    assert not rung(shipper)
    shipper.doze()
    process.ring()
    assert rung(shipper)
    process.ring()
    shipper.rouse()
    assert not rung(shipper)
    process.ring()
    assert not rung(shipper)
    process.wake()
    assert rung(shipper)
    for doorbell in (shipper, process):
        doorbell.close()
        doorbell.close()


def test_ringing_never_blocks(directory: Path) -> None:
    """However often one rings while nobody listens."""
    process = Doorbell(directory)
    for _ in range(70_000):
        process.wake()
    listener = Doorbell(directory)
    assert rung(listener)
    process.close()
    listener.close()


def test_rings_of_long_ago_are_taken_at_once(directory: Path) -> None:
    """A shipper that was away for long is not woken again and again."""
    process, shipper = Doorbell(directory), Doorbell(directory)
    for _ in range(1000):
        process.wake()
    shipper.rouse()
    assert not rung(shipper)
    process.close()
    shipper.close()


def test_a_pulse_is_seen_by_others(directory: Path) -> None:
    """The worker sees whether its shipper goes round, without a system call of either."""
    shipper, worker = Doorbell(directory), Doorbell(directory)
    for beat in (1, 2, 10**12):
        shipper.beat(beat)
        assert worker.pulse() == beat
    shipper.doze()
    assert worker.pulse() == 10**12
    shipper.close()
    worker.close()
