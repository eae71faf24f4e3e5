"""Raw files and their copies: what is taken is kept in its place, and its memory is given back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_livelog.frames import STDERR, STDOUT, STREAMS, Frame
from celery_livelog.shipper.copies import RawCopy
from celery_livelog.shipper.raw import RawFile, open_files
from tests.unit import children

_LATER = 1 << 62


class Raws:
    """Two raw files as a process has them, and the shipper's view of them."""

    def __init__(self, directory: Path) -> None:
        self.paths = {name: str(directory / name) for name in ("stdout", "stderr")}
        for path in self.paths.values():
            Path(path).touch(0o600)
        self.copy = directory / "1.copy"
        self.files = open_files(self.paths, (0, 0))

    def write(self, stream: int, data: bytes) -> None:
        with open(self.paths[STREAMS[stream]], "ab") as file:
            file.write(data)

    def sizes(self) -> tuple[int, int]:
        return self.files[0].size(), self.files[1].size()

    def take(self, copy: RawCopy, at: int, upto: tuple[int, int] | None = None) -> list[tuple[int, bytes]]:
        return [
            (frame.stream, frame.payload) for frame in copy.take(self.files, upto or self.sizes(), at, before=_LATER)
        ]

    def start_anew(self, full: bool = False) -> RawCopy:
        """A copy as a new shipper opens it, with files at their beginning."""
        for file in self.files:
            file.close(delete=False)
        self.files = open_files(self.paths, (0, 0))
        return RawCopy(self.copy, lambda: full)


@pytest.fixture
def raws(tmp_path: Path) -> Iterator[Raws]:
    """Two empty raw files."""
    raws = Raws(tmp_path)
    yield raws
    for file in raws.files:
        file.close(delete=False)


def test_what_is_written_is_taken_once(raws: Raws) -> None:
    """Up to the sizes that are asked for, each byte once, stream by stream."""
    copy = raws.start_anew()
    raws.write(STDOUT, b"one")
    raws.write(STDERR, b"err")
    assert raws.take(copy, at=0, upto=(2, 0)) == [(STDOUT, b"on")]
    assert raws.take(copy, at=0) == [(STDOUT, b"e"), (STDERR, b"err")]
    assert raws.take(copy, at=0) == []
    copy.close(delete=True)
    assert not raws.copy.exists()


def test_a_new_shipper_takes_the_same_at_the_same_places(raws: Raws) -> None:
    """What was kept comes again before the journal's place at which it stood, then what is new."""
    copy = raws.start_anew()
    raws.write(STDOUT, b"early")
    first = raws.take(copy, at=100)
    raws.write(STDERR, b"late")
    second = raws.take(copy, at=300)
    copy.close(delete=False)
    raws.write(STDOUT, b"new")
    copy = raws.start_anew()
    assert raws.take(copy, at=50) == []
    assert raws.take(copy, at=100) == first == [(STDOUT, b"early")]
    assert raws.take(copy, at=200) == []
    assert raws.take(copy, at=300) == [*second, (STDOUT, b"new")]
    copy.close(delete=False)


def test_what_is_kept_has_the_time_of_its_place(raws: Raws) -> None:
    """Raw bytes are not younger than the record they stand before, and a new shipper gives them the same time."""
    copy = raws.start_anew()
    raws.write(STDOUT, b"one")
    (frame,) = copy.take(raws.files, raws.sizes(), 10, before=12345)
    copy.close(delete=False)
    (again,) = raws.start_anew().take(raws.files, raws.sizes(), 10, before=99)
    assert frame.time == again.time == 12345


def test_taken_memory_is_given_back(raws: Raws) -> None:
    """Whole pages that are in the copy are punched out; the file's size, which is the clock, stays."""
    copy = raws.start_anew()
    data = os.urandom(1_000_000)
    raws.write(STDOUT, data)
    before = Path(raws.paths["stdout"]).stat().st_blocks
    assert b"".join(payload for _, payload in raws.take(copy, at=0)) == data
    status = Path(raws.paths["stdout"]).stat()
    assert (status.st_size, before > 1900, status.st_blocks <= 16) == (1_000_000, True, True)
    copy.close(delete=False)
    copy = raws.start_anew()
    raws.write(STDOUT, b"more")
    assert b"".join(payload for _, payload in raws.take(copy, at=0)) == data + b"more"
    copy.close(delete=False)


def test_beyond_the_budget_lines_are_counted(raws: Raws) -> None:
    """With the spool's budget spent, lines are counted, and a new shipper counts the same."""
    copy = raws.start_anew(full=True)
    raws.write(STDOUT, b"one\ntwo\nthree")
    raws.write(STDERR, b"half")
    expected = [(STDOUT, b'{"lines":2,"reason":"overload"}'), (STDERR, b"")]
    assert raws.take(copy, at=0) == expected
    copy.close(delete=False)
    copy = raws.start_anew(full=False)
    assert raws.take(copy, at=0) == expected
    raws.write(STDOUT, b"\nfour\n")
    assert raws.take(copy, at=0) == [(STDOUT, b"\nfour\n")]
    copy.close(delete=False)


def test_a_shell_that_empties_a_raw_file(raws: Raws) -> None:
    """``echo > /dev/stdout`` truncates what descriptor 1 points at: what is written from then on is taken."""
    copy = raws.start_anew()
    raws.write(STDOUT, b"x" * 100)
    before = raws.take(copy, at=0)
    os.truncate(raws.paths["stdout"], 0)
    raws.write(STDOUT, b"new\n")
    after = raws.take(copy, at=0)
    assert after == [(STDOUT, b"new\n")]
    copy.close(delete=False)
    copy = raws.start_anew()
    assert raws.take(copy, at=0) == before + after
    raws.write(STDOUT, b"newer\n")
    assert raws.take(copy, at=0) == [(STDOUT, b"newer\n")]
    copy.close(delete=False)


@pytest.mark.parametrize("left", [1, 20, 60])
def test_a_copy_cut_short_is_taken_again(raws: Raws, left: int) -> None:
    """A shipper killed while it copied has not punched: the bytes are read again, and later copies are found."""
    copy = raws.start_anew()
    raws.write(STDOUT, b"kept\n")
    raws.take(copy, at=0)
    kept = raws.copy.stat().st_size
    raws.write(STDOUT, b"x" * 100)
    next(copy.take(raws.files, raws.sizes(), 0, before=_LATER))
    copy.close(delete=False)
    with raws.copy.open("r+b") as file:
        file.truncate(kept + left)
    for _ in range(2):
        copy = raws.start_anew()
        assert b"".join(payload for _, payload in raws.take(copy, at=0)) == b"kept\n" + b"x" * 100
        copy.close(delete=False)


class FullDisk:
    """`os.write` of a disk that takes nothing, or a part of each frame, while `full`."""

    def __init__(self, part: int) -> None:
        self.full = True
        self._part = part
        self._write = os.write

    def __call__(self, fd: int, data: bytes) -> int:
        if not self.full:
            return self._write(fd, data)
        if not self._part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(fd, data[: self._part])


@pytest.fixture(params=[0, 30], ids=["nothing", "a part"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    """The disk of the copies; it is full."""
    disk = FullDisk(request.param)
    monkeypatch.setattr("celery_livelog.errors._last_said", {})
    monkeypatch.setattr("celery_livelog.shipper.copies._OWED_SECONDS", 0.0)
    monkeypatch.setattr("celery_livelog.shipper.copies.os.write", disk)
    return disk


def test_a_full_disk_holds_nothing_up(raws: Raws, disk: FullDisk, capfd: Any) -> None:
    """What cannot be kept is given all the same and stays in the raw file; when there is room, it is kept in order."""
    copy = raws.start_anew()
    data = os.urandom(600_000)
    raws.write(STDOUT, data)
    taken = raws.take(copy, at=10)
    raws.write(STDERR, b"err\n")
    taken += raws.take(copy, at=20)
    assert b"".join(payload for _, payload in taken) == data + b"err\n"
    assert not copy.settle()
    assert raws.copy.stat().st_size == 0
    assert Path(raws.paths["stdout"]).stat().st_blocks > 1100
    assert not raws.files[0].forsaken
    assert capfd.readouterr().err.count("stays where it is") == 1
    disk.full = False
    assert copy.settle()
    assert Path(raws.paths["stdout"]).stat().st_blocks <= 16
    raws.write(STDOUT, b"more")
    taken += raws.take(copy, at=30)
    copy.close(delete=False)
    copy = raws.start_anew()
    assert [found for at in (10, 20, 30) for found in raws.take(copy, at)] == taken
    copy.close(delete=False)


def test_a_shipper_killed_while_the_disk_is_full(raws: Raws, disk: FullDisk) -> None:
    """The one after it finds in the raw files what was not kept."""
    copy = raws.start_anew()
    disk.full = False
    raws.write(STDOUT, b"kept\n")
    raws.take(copy, at=0)
    disk.full = True
    data = os.urandom(100_000)
    raws.write(STDOUT, data)
    assert raws.take(copy, at=10) == [(STDOUT, data)]
    copy.close(delete=False)
    disk.full = False
    for _ in range(2):
        copy = raws.start_anew()
        assert b"".join(payload for _, payload in [*raws.take(copy, at=0), *raws.take(copy, at=10)]) == b"kept\n" + data
        copy.close(delete=False)


def test_raw_files_do_not_fill_their_memory(raws: Raws, disk: FullDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where little is left, it is given back although nothing could be kept; a later shipper counts what it misses."""
    monkeypatch.setattr(RawFile, "cramped", True)
    copy = raws.start_anew()
    data = b"a line\n" * 100_000
    raws.write(STDOUT, data)
    assert b"".join(payload for _, payload in raws.take(copy, at=10)) == data
    assert Path(raws.paths["stdout"]).stat().st_blocks <= 16
    disk.full = False
    assert copy.settle()
    raws.write(STDOUT, b"more")
    raws.take(copy, at=20)
    copy.close(delete=False)
    copy = raws.start_anew()
    assert raws.take(copy, at=20) == [(STDOUT, b'{"lines":100000,"reason":"lost"}'), (STDOUT, b"more")]
    copy.close(delete=False)


def test_what_was_given_back_is_not_read_as_noughts(
    raws: Raws, disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shipper that is killed after it gave back memory for lack of room leaves a hole: that says that it is one."""
    monkeypatch.setattr(RawFile, "cramped", True)
    copy = raws.start_anew()
    raws.write(STDOUT, b"a line\n" * 100_000)
    raws.take(copy, at=10)
    copy.close(delete=False)
    disk.full = False
    raws.write(STDOUT, b"more\n")
    copy = raws.start_anew()
    (gap, rest) = raws.take(copy, at=20)
    assert gap == (STDOUT, b'{"lines":1,"reason":"lost"}')
    assert rest[1].endswith(b"more\n")
    assert len(rest[1]) < 4200
    assert b"\0" not in rest[1]
    copy.close(delete=False)


def test_a_copy_is_read_as_it_is_needed(raws: Raws) -> None:
    """However much an earlier shipper has kept, the next one holds little of it at a time."""
    copy = raws.start_anew()
    for at in range(40):
        raws.write(STDOUT, bytes([at]) * 250_000)
        raws.take(copy, at=at)
    copy.close(delete=False)
    copy = raws.start_anew()
    assert raws.take(copy, at=-1) == []
    assert sum(len(frame.payload) for frame in copy._kept) < 2_000_000
    assert [payload[0] for at in range(40) for _, payload in raws.take(copy, at)] == list(range(40))
    copy.close(delete=False)


def test_a_limit_on_the_size_of_files(raws: Raws) -> None:
    """A real short write: the shipper goes on, and the one after it finds all."""
    raws.write(STDOUT, b"x" * 50_000)
    children.run(
        """
        import resource, sys
        from celery_livelog.shipper.copies import RawCopy
        from celery_livelog.shipper.raw import open_files
        from pathlib import Path

        files = open_files({"stdout": sys.argv[1], "stderr": sys.argv[2]}, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        taken = list(RawCopy(Path(sys.argv[3]), lambda: False).take(files, (50_000, 0), 0, 1))
        assert [len(frame.payload) for frame in taken] == [50_000]
        """,
        raws.paths["stdout"],
        raws.paths["stderr"],
        raws.copy,
    )
    copy = raws.start_anew()
    assert raws.take(copy, at=0) == [(STDOUT, b"x" * 50_000)]
    copy.close(delete=False)


def test_only_its_owner_can_read_a_copy(raws: Raws) -> None:
    """A copy holds what tasks print; and no link that somebody has planted is followed."""
    copy = raws.start_anew()
    raws.write(STDOUT, b"secret")
    raws.take(copy, at=0)
    assert raws.copy.stat().st_mode & 0o777 == 0o600
    copy.close(delete=True)
    raws.copy.symlink_to(raws.paths["stderr"])
    with pytest.raises(OSError):
        raws.start_anew()


def test_a_file_that_is_gone_was_read(tmp_path: Path) -> None:
    """A raw file that an earlier shipper has deleted has nothing more to give, and nobody writes to it."""
    file = RawFile(str(tmp_path / "gone"), STDOUT, 7)
    assert (file.size(), list(file.read(100)), file.forsaken) == (7, [], True)
    file.close(delete=True)


def test_a_file_is_forsaken_when_its_last_writer_is_gone(raws: Raws) -> None:
    """As long as any process has it open, and until all is read, it is kept."""
    (file, _) = raws.files
    with open(raws.paths["stdout"], "ab") as handed_out:
        writer = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read(); print('bye')"],
            stdin=subprocess.PIPE,
            stdout=handed_out,
        )
    assert not file.forsaken
    writer.communicate()
    assert not file.forsaken
    assert list(file.read(file.size())) == [b"bye\n"]
    assert file.forsaken


def test_large_output_is_taken_in_pieces(raws: Raws) -> None:
    """However much a subprocess writes, little of it is taken at once."""
    copy = raws.start_anew()
    raws.write(STDOUT, bytes(5_000_000))
    frames: list[Frame] = list(copy.take(raws.files, raws.sizes(), 0, before=_LATER))
    assert sum(len(frame.payload) for frame in frames) == 5_000_000
    assert max(len(frame.payload) for frame in frames) <= 1 << 20
    copy.close(delete=False)


def test_what_somebody_else_has_to_show_is_kept_until_then(tmp_path: Path) -> None:
    """Its memory is given back as it is shown."""
    path = tmp_path / "stdout"
    path.write_bytes(b"x" * 40_960)
    shown = [0]
    file = RawFile(str(path), STDOUT, 0, lambda stream: shown[0])
    assert sum(map(len, file.read(40_960))) == 40_960
    assert path.read_bytes() == b"x" * 40_960
    shown[0] = 10_000
    file.punch()
    assert path.read_bytes() == bytes(8192) + b"x" * (40_960 - 8192)
    file.close(delete=True)


def test_what_somebody_else_has_to_show_gives_way_where_room_is_scarce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(b"x" * 8192)
    monkeypatch.setattr(RawFile, "cramped", True)
    file = RawFile(str(path), STDOUT, 0, lambda stream: 0)
    assert sum(map(len, file.read(8192))) == 8192
    assert path.read_bytes() == bytes(8192)
    file.close(delete=True)


def test_whether_a_process_can_still_write(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    with open(path, "ab"):
        file = RawFile(str(path), STDOUT, 0)
        assert file.in_use
        assert not file.forsaken
    assert not file.in_use
    assert file.forsaken
    file.close(delete=True)
