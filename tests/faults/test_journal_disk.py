"""What a task or its disk does to the files that its process writes: the task goes on, and what is lost is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_livelog import spool
from celery_livelog.records import End, Gap, Line, Record
from tests.unit.test_process import lines, logs, run, state


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A new spool directory."""
    return spool.create(str(tmp_path))


def accounted(records: list[Record]) -> int:
    """Lines shown and skipped."""
    skipped = sum(record.skipped for record in records if isinstance(record, Gap))
    return skipped + sum(isinstance(record, Line) for record in records)


_FAULTS = """
import errno, resource
from celery_livelog import journal as module

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def break_writes(error, short=0):
    real = os.write
    def write(fd, data):
        if fd != kept._journal._fd:
            return real(fd, data)
        if short:
            return real(fd, data[:short])
        raise OSError(error, os.strerror(error))
    module.os = type("os", (), {**vars(os), "write": staticmethod(write)})

def mend():
    module.os = os
"""


@pytest.mark.parametrize(
    "fault",
    [
        "limit(0)",
        "break_writes(errno.ENOSPC)",
        "break_writes(errno.EDQUOT)",
        "break_writes(errno.EIO)",
        "break_writes(0, short=20)",
    ],
)
def test_a_disk_that_takes_nothing_for_a_while(directory: Path, fault: str) -> None:
    """The task prints on; what was lost is one gap with the exact count, in its place, and all goes on when it can."""
    out, _ = run(
        _FAULTS
        + f"""
capture()
with task("printing"):
    print("before")
    {fault}
    for number in range(1000):
        print("lost", number)
        logging.warning("lost too")
    limit(resource.RLIM_INFINITY)
    mend()
    print("after")
kept.close()
""",
        directory,
    )
    records = logs(directory)["printing"]
    first, gap, last, end = records
    assert isinstance(gap, Gap)
    assert (gap.skipped, gap.reason) == (2000, "lost")
    assert lines([first, last]) == [("stdout", "before"), ("stdout", "after")]
    assert isinstance(end, End)
    assert len(out.splitlines()) == 1002


def test_a_disk_that_is_full_when_a_task_begins_and_ends(directory: Path) -> None:
    """Begin and end wait in memory: later the log has both, with a gap for all that was printed."""
    run(
        _FAULTS
        + """
capture()
break_writes(errno.ENOSPC)
for name in ("first", "second"):
    with task(name, state=name.upper()):
        for number in range(10):
            print(number)
mend()
with task("third"):
    print("there is room")
kept.close()
""",
        directory,
    )
    found = logs(directory)
    for name in ("first", "second"):
        assert accounted(found[name]) == 10
        assert state(found[name]) == name.upper()
    assert lines(found["third"]) == [("stdout", "there is room")]


def test_room_that_comes_with_the_end_of_the_process(directory: Path) -> None:
    """What waited is written when the process leaves."""
    run(
        _FAULTS
        + """
capture()
break_writes(errno.ENOSPC)
with task("only", state="FAILURE"):
    print("lost")
mend()
kept.close()
""",
        directory,
    )
    found = logs(directory)["only"]
    assert accounted(found) == 1
    assert state(found) == "FAILURE"


def test_what_waits_is_bounded(directory: Path) -> None:
    """Whatever number of tasks run on a full disk, their process does not grow by more than 8 MiB."""
    run(
        _FAULTS
        + """
from celery_livelog.frames import BEGIN
capture()
break_writes(errno.ENOSPC)
for number in range(10_000):
    kept._journal.append(BEGIN, 0, number, 0, (0, 0), b"x" * 1000, must=True)
assert sum(map(len, kept._journal._owed)) <= 9 << 20
kept._journal._owed.clear()
kept.close()
""",
        directory,
    )


@pytest.mark.parametrize("last", [256, 1024, 4096])
def test_a_task_that_closes_all_descriptors(directory: Path, last: int) -> None:
    """As daemons do. It is logged on, and files that it opens then have its own bytes only."""
    run(
        f"""
        import tempfile
        capture()
        with task("daemon"):
            print("before")
            os.closerange(3, {last})
            own = [tempfile.TemporaryFile(dir={str(directory.parent)!r}) for _ in range(200)]
            for number, file in enumerate(own):
                print("printed", number)
                os.write(1, b"written\\n")
                file.write(b"own")
                file.flush()
            for file in own:
                file.seek(0)
                assert file.read() == b"own"
                file.close()
        with task("next"):
            print("as ever")
            os.write(2, b"raw\\n")
        kept.close()
        """,
        directory,
    )
    found = logs(directory)
    printed = [line for _, line in lines(found["daemon"])]
    assert printed == ["before", *(text for number in range(200) for text in (f"printed {number}", "written"))]
    assert state(found["daemon"]) == "SUCCESS"
    assert lines(found["next"]) == [("stdout", "as ever"), ("stderr", "raw")]


def test_a_process_that_closed_its_lock_still_lives(directory: Path) -> None:
    """Its lock is asked for by the shipper, which would close the logs of a process that is gone."""
    run(
        """
        from celery_livelog import spool
        capture()
        (lock,) = directory.glob("*.lock")
        os.closerange(3, 4096)
        assert spool.held(directory, lock.stem)
        kept.close()
        assert not spool.held(directory, lock.stem)
        """,
        directory,
    )


def test_low_descriptors_are_the_programs(directory: Path) -> None:
    """What a task opens gets the numbers that it would get without us."""
    run(
        """
        before = os.listdir("/proc/self/fd")
        capture()
        with task("looking"):
            after = os.listdir("/proc/self/fd")
            assert [fd for fd in after if int(fd) < 900] == before
            assert len(after) < len(before) + 10
        kept.close()
        """,
        directory,
    )


def test_games_with_descriptors(directory: Path) -> None:
    """What a task sends elsewhere by ``dup2`` stays there; the next task is captured as ever."""
    run(
        """
        capture()
        with task("playing"):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.write(1, b"nowhere\\n")
            os.dup2(2, 1)
            os.write(1, b"to stderr\\n")
            os.close(2)
            print("printed")
        with task("next"):
            os.write(1, b"out\\n")
            os.write(2, b"err\\n")
        kept.close()
        """,
        directory,
    )
    found = logs(directory)
    assert sorted(lines(found["playing"])) == [("stderr", "to stderr"), ("stdout", "printed")]
    assert sorted(lines(found["next"])) == [("stderr", "err"), ("stdout", "out")]


def test_other_surroundings(directory: Path) -> None:
    """Another directory, a umask that takes all rights, few descriptors: later files are found, and are private."""
    run(
        """
        import resource
        from celery_livelog import journal
        capture(spool_max_bytes=40_000)
        with task("moving"):
            os.umask(0o777)
            os.chdir("/")
            for number in range(300):
                print(number, "x" * 50)
        os.umask(0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 4096))
        with task("next"):
            print("as ever")
            os.write(1, b"raw\\n")
        for path in directory.iterdir():
            assert path.stat().st_mode & 0o777 == 0o600, path
        kept.close()
        """,
        directory,
    )
    found = logs(directory)
    assert accounted(found["moving"]) == 300
    assert lines(found["next"])[-2:] == [("stdout", "as ever"), ("stdout", "raw")]


def test_a_spool_that_is_deleted(directory: Path) -> None:
    """Tasks run on, also those that begin without it, and nothing of ours is raised."""
    out, _ = run(
        """
        import shutil
        capture()
        with task("first"):
            print("before")
            shutil.rmtree(directory)
            print("after")
        with task("second"):
            for number in range(100):
                print("on and on")
            os.write(1, b"raw\\n")
        kept.close()
        """,
        directory,
    )
    assert out.splitlines()[:2] == ["before", "after"]
    assert out.count("on and on") == 100


def test_no_room_for_raw_files(directory: Path) -> None:
    """A task that cannot have raw files is captured without them; the next one, when there is room, has them again."""
    out, err = run(
        """
        from celery_livelog import descriptors
        capture()
        real = descriptors.files.private_file
        def full(path, flags):
            raise OSError(28, "No space left on device")
        descriptors.files.private_file = full
        with task("first"):
            print("printed")
            os.write(1, b"to the console\\n")
        descriptors.files.private_file = real
        with task("second"):
            os.write(1, b"raw\\n")
        kept.close()
        """,
        directory,
    )
    found = logs(directory)
    assert lines(found["first"]) == [("stdout", "printed")]
    assert lines(found["second"]) == [("stdout", "raw")]
    assert "to the console" in out
    assert err.count("celery-livelog") == 1
