"""Raw files and their copies: what is taken is kept in its place, and its memory is given back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_livelog.frames import STDERR, STDOUT, STREAMS, Frame
from celery_livelog.shipper.raw import RawCopy, RawFile, open_files
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


def test_a_full_disk_loses_nothing_of_the_raw_files(raws: Raws) -> None:
    """What cannot be kept is not punched: the shipper fails, and the one after it finds all of it."""
    raws.write(STDOUT, b"x" * 50_000)
    children.run(
        """
        import resource, sys
        from celery_livelog.shipper.raw import RawCopy, open_files
        from pathlib import Path

        files = open_files({"stdout": sys.argv[1], "stderr": sys.argv[2]}, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            list(RawCopy(Path(sys.argv[3]), lambda: False).take(files, (50_000, 0), 0, 1))
        except OSError:
            sys.exit(0)
        sys.exit("a frame that was cut short was taken for kept")
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
