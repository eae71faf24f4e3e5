"""The journal: what is appended is read back, whatever the disk, other threads or the reader's moment do to it."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.frames import BEGIN, STDOUT, TEXT, Frame, FrameReader, pack
from celery_livelog.journal import Journal
from celery_livelog.records import End, Gap, Line
from tests.nodes.waiting import wait_for
from tests.unit import children
from tests.unit.journals import (
    AMPLE,
    ENDING,
    NO_RAW_FILES,
    PROCESS,
    begin,
    frames,
    lines,
    open_journal,
    paths,
    records,
    skipped,
)

_HEADER = 48


class Written(NamedTuple):
    """What one append is given, in its order."""

    kind: int
    stream: int
    slot: int
    channel: int
    raw: tuple[int, int]
    payload: bytes


_SIZE = st.integers(0, 2**63)
#: Payloads; also some that look like frames, as when a task prints a journal.
PAYLOAD = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([b"JL", b"....JL\x02\x01\xff\xff\x00\x00", pack(TEXT, STDOUT, 1, 0, 1, (0, 0), b"inner\n")]),
)
WRITTEN = st.builds(
    Written,
    st.integers(1, 7),
    st.integers(0, 4),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.tuples(_SIZE, _SIZE),
    PAYLOAD,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty spool directory."""
    return tmp_path


def journal_bytes(appended: list[Written]) -> list[bytes]:
    """Each of the frames, as a journal writes it."""
    with tempfile.TemporaryDirectory() as name:
        written = open_journal(Path(name))
        sizes = [0]
        (path,) = paths(Path(name))
        for append in appended:
            assert written.append(*append)
            sizes.append(path.stat().st_size)
        written.close()
        data = path.read_bytes()
    return [data[start:end] for start, end in pairwise(sizes)]


def read_all(chunks: list[bytes]) -> tuple[list[Frame], int]:
    """The frames of a file that grows by these chunks, read after each; and the bytes that were stepped over."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "1.journal"
        path.touch()
        reader = FrameReader(path)
        found: list[Frame] = []
        for chunk in chunks:
            with path.open("ab") as file:
                file.write(chunk)
            while read := reader.read():
                found += [frame for _, frame in read]
        while read := reader.read(complete=True):
            found += [frame for _, frame in read]
        reader.close()
    return found, reader.damaged


def as_written(frame: Frame) -> Written:
    return Written(frame.kind, frame.stream, frame.slot, frame.channel, (frame.raw_out, frame.raw_err), frame.payload)


@given(st.lists(WRITTEN, max_size=12), st.lists(st.integers(0, 4000), max_size=12))
def test_what_is_appended_is_read_in_whatever_chunks(appended: list[Written], places: list[int]) -> None:
    """A reader that looks at any moment, also in the middle of a frame, gets every frame once, whole and in order."""
    data = b"".join(journal_bytes(appended))
    cuts = sorted(min(place, len(data)) for place in places)
    found, damaged = read_all([data[start:end] for start, end in pairwise([0, *cuts, len(data)])])
    assert [as_written(frame) for frame in found] == appended
    assert damaged == 0
    assert [frame.time for frame in found] == sorted(frame.time for frame in found)


@st.composite
def harmed(draw: st.DrawFn, whole: bytes) -> bytes:
    """What is left of a frame: cut short, or with a byte changed, or overwritten with zeros."""
    how = draw(st.sampled_from(["cut", "changed", "zeroed"]))
    place = draw(st.integers(0, len(whole) - 1))
    if how == "cut":
        return whole[:place]
    if how == "changed":
        changed = draw(st.integers(1, 255)) ^ whole[place]
        return whole[:place] + bytes([changed]) + whole[place + 1 :]
    end = draw(st.integers(place + 1, len(whole)))
    return whole[:place] + bytes(end - place) + whole[end:]


@given(st.data())
def test_a_damaged_frame_costs_only_itself(data: st.DataObject) -> None:
    """All frames around damaged ones are read, whether the file is still written or not."""
    text = st.binary(max_size=300).filter(lambda payload: b"JL" not in payload)
    appended = data.draw(st.lists(WRITTEN.flatmap(lambda one: text.map(lambda t: one._replace(payload=t))), max_size=8))
    whole = journal_bytes(appended)
    broken = data.draw(st.sets(st.integers(0, max(0, len(whole) - 1)), max_size=3)) if whole else set()
    left = [data.draw(harmed(part)) if at in broken else part for at, part in enumerate(whole)]
    sound = [append for at, append in enumerate(appended) if at not in broken or left[at] == whole[at]]
    assert [as_written(frame) for frame in read_all([b"".join(left)])[0]] == sound
    assert [as_written(frame) for frame in read_all(left)[0]] == sound


def test_a_frame_cut_short_does_not_hold_up_what_follows(directory: Path) -> None:
    """After a full disk has cut a large frame short, the small ones behind it are read at the next look."""
    large, small = journal_bytes([Written(TEXT, 1, 1, 0, (0, 0), b"x" * 5000), Written(TEXT, 1, 1, 0, (0, 0), b"y")])
    path = directory / "1.journal"
    path.write_bytes(large[:3000] + small + small[:20])
    reader = FrameReader(path)
    assert [frame.payload for _, frame in reader.read() + reader.read()] == [b"y"]
    assert reader.damaged == 3000
    with path.open("ab") as file:
        file.write(small[20:])
    assert [frame.payload for _, frame in reader.read()] == [b"y"]
    reader.close()


def test_an_unfinished_frame_is_waited_for(directory: Path) -> None:
    """A frame that is not all there yet is given once it is, however often one looks before."""
    (whole,) = journal_bytes([Written(TEXT, 1, 1, 0, (0, 0), b"text" * 100)])
    path = directory / "1.journal"
    reader_found: list[bytes] = []
    path.touch()
    reader = FrameReader(path)
    for at in range(0, len(whole), 50):
        with path.open("ab") as file:
            file.write(whole[at : at + 50])
        reader_found += [frame.payload for _ in range(3) for _, frame in reader.read()]
    reader.close()
    assert reader_found == [b"text" * 100]


def test_offsets_are_where_frames_stand(directory: Path) -> None:
    """Each frame comes with its place in the file, and the reader's own is behind the last."""
    whole = journal_bytes([Written(TEXT, 1, 1, 0, (0, 0), b"x" * size) for size in (10, 0, 300)])
    path = directory / "1.journal"
    path.write_bytes(b"".join(whole))
    reader = FrameReader(path)
    assert [at for at, _ in reader.read()] == [0, _HEADER + 10, 2 * _HEADER + 10]
    assert reader.offset == path.stat().st_size
    reader.close()


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_large_payloads(directory: Path, size: int) -> None:
    """A frame larger than what is read at once comes back whole."""
    written = open_journal(directory)
    for byte in (b"a", b"b"):
        assert written.append(TEXT, STDOUT, 1, 0, NO_RAW_FILES, byte * size)
    written.close()
    assert [frame.payload for frame in frames(directory)] == [b"a" * size, b"b" * size]


@pytest.fixture
def hasty() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_rotation_under_many_threads_loses_nothing(directory: Path) -> None:
    """Threads that append while files are changed: all is there, each thread's in its order, no file left out."""
    budget, threads, each = 64 * 1024, 8, 60
    written = open_journal(directory, budget)
    barrier = threading.Barrier(threads)

    def append(thread: int) -> None:
        barrier.wait()
        for number in range(each):
            payload = b"%d %d" % (thread, number) + b" " * 2000
            assert written.append(TEXT, STDOUT, 1, thread, NO_RAW_FILES, payload, force=True)

    started = [threading.Thread(target=append, args=(thread,)) for thread in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    written.close()
    found = [tuple(map(int, frame.payload.split())) for frame in frames(directory)]
    for writer in range(threads):
        assert [number for by, number in found if by == writer] == list(range(each))
    names = [path.name for path in paths(directory)]
    assert names == [f"{PROCESS}.{sequence:06d}.journal" for sequence in range(1, len(names) + 1)]
    assert len(names) > 5


def test_a_new_file_is_begun_at_an_eighth_of_the_budget(directory: Path) -> None:
    """What is archived can be deleted in pieces even where the budget is small."""
    written = open_journal(directory, budget=80_000)
    for _ in range(50):
        written.append(TEXT, STDOUT, 1, 0, NO_RAW_FILES, b"x" * 952)
    written.close()
    assert [path.stat().st_size for path in paths(directory)] == [10_000] * 5 + [0]
    assert len(frames(directory)) == 50


def test_beyond_the_budget_lines_are_counted(directory: Path) -> None:
    """With the budget spent, what is printed is counted, and a gap says how much: shown + skipped = printed."""
    written = open_journal(directory, budget=50_000)
    writer = begin(written)
    for number in range(1000):
        writer.write(STDOUT, f"line {number}\n")
        writer.log("INFO", "logger", f"two\nlines {number}")
        writer.log("INFO", "logger", f"a line with its end {number}\n")
    writer.end(ENDING)
    written.close()
    found = records(directory)
    assert sum(path.stat().st_size for path in paths(directory)) < 60_000
    assert 0 < len(lines(found)) < 4000
    assert len(lines(found)) + skipped(found) == 4000
    assert [record.reason for record in found if isinstance(record, Gap)] == ["overload"]
    assert [record.n for record in found if isinstance(record, End)] == [4001]


@pytest.mark.usefixtures("hasty")
def test_threads_count_exactly(directory: Path) -> None:
    """However many threads print beyond the budget: shown + skipped = printed."""
    written = open_journal(directory, budget=50_000)
    writer = begin(written)

    def print_much() -> None:
        for number in range(500):
            writer.write(STDOUT, f"line {number}\n" * 3)

    threads = [threading.Thread(target=print_much) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.end(ENDING)
    written.close()
    found = records(directory)
    assert len(lines(found)) + skipped(found) == 8 * 500 * 3


def test_room_is_found_again(directory: Path) -> None:
    """When archived files have gone, what is printed is written again, behind a gap for what is missing."""
    written = open_journal(directory, budget=50_000)
    writer = begin(written)
    before = after = 0
    while not written.full:
        writer.write(STDOUT, f"before {before}\n")
        before += 1
    writer.write(STDOUT, "lost\n" * 3)
    begun, *archived, _ = paths(directory)
    for path in archived:
        path.unlink()

    def printed_again() -> bool:
        nonlocal after
        writer.write(STDOUT, "after\n")
        after += 1
        return not written.full

    wait_for(printed_again)
    writer.end(ENDING)
    written.close()
    assert paths(directory)[0] == begun
    *_, gap, line, end = records(directory)
    assert isinstance(gap, Gap)
    assert (gap.skipped, gap.reason) == (3 + after - 1, "overload")
    assert isinstance(line, Line)
    assert line.line == "after"
    assert isinstance(end, End)


def test_a_full_disk_loses_only_what_did_not_fit(directory: Path) -> None:
    """A write that the system cuts short or refuses raises nothing in the task; what follows is whole and counted."""
    children.run(
        """
        import resource, sys
        from pathlib import Path
        from tests.unit.journals import ENDING, begin, open_journal

        journal = open_journal(Path(sys.argv[1]))
        writer = begin(journal)
        writer.write(1, "before\\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        writer.write(1, "too long\\n" * 1000)
        writer.write(1, "in another file\\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        writer.write(1, "after\\n")
        writer.end(ENDING)
        """,
        directory,
    )
    before, gap, other_file, after, end = records(directory)
    assert [line for _, line in lines([before, other_file, after])] == ["before", "in another file", "after"]
    assert isinstance(gap, Gap)
    assert (gap.skipped, gap.reason) == (1000, "lost")
    assert isinstance(end, End)


def test_a_forked_child_does_not_change_files(directory: Path) -> None:
    """A child that a task forked appends to its parent's file; a new one is the parent's to begin."""
    children.run(
        """
        import os, sys
        from pathlib import Path
        from tests.unit.journals import NO_RAW_FILES, open_journal

        journal = open_journal(Path(sys.argv[1]), budget=32_768)
        def fill(name):
            for number in range(30):
                assert journal.append(2, 1, 1, 0, NO_RAW_FILES, b"%b %d" % (name, number) + b" " * 200, force=True)
        pid = os.fork()
        if not pid:
            fill(b"child")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        fill(b"parent")
        """,
        directory,
    )
    found = [frame.payload.strip() for frame in frames(directory)]
    assert found == [b"%b %d" % (name, number) for name in (b"child", b"parent") for number in range(30)]
    assert len(paths(directory)) == 2


def test_only_its_owner_can_read_it(directory: Path) -> None:
    """A journal holds what tasks print: mode 0600, however open the umask."""
    before = os.umask(0)
    try:
        open_journal(directory).close()
    finally:
        os.umask(before)
    (path,) = paths(directory)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("planted", ["link", "file"])
def test_nothing_planted_is_written_to(directory: Path, planted: str) -> None:
    """Where somebody else has put a file or a link in the journal's place, it is not opened."""
    target = directory / "target"
    target.write_bytes(b"precious")
    place = directory / f"{PROCESS}.000001.journal"
    if planted == "link":
        place.symlink_to(target)
    else:
        target.rename(place)
    with pytest.raises(OSError):
        open_journal(directory)
    assert place.read_bytes() == b"precious"


def test_a_link_is_not_read(directory: Path) -> None:
    """The shipper does not follow links either."""
    target = directory / "target"
    target.touch()
    (directory / "link").symlink_to(target)
    with pytest.raises(OSError):
        FrameReader(directory / "link")


def test_it_rings_for_each_append(directory: Path) -> None:
    """Whoever follows the journal is told of every frame, once it is there."""
    seen: list[int] = []
    written = Journal(directory, PROCESS, AMPLE, ring=lambda: seen.append(len(frames(directory))))
    for _ in range(3):
        written.append(TEXT, STDOUT, 1, 0, NO_RAW_FILES, b"text")
    written.close()
    assert seen == [1, 2, 3]


def test_a_closed_journal_refuses(directory: Path) -> None:
    """After the end nothing is written, and nothing is raised; closing twice does no harm."""
    written = open_journal(directory)
    written.close()
    written.close()
    assert not written.append(TEXT, STDOUT, 1, 0, NO_RAW_FILES, b"text")


def test_a_diverted_journal_writes_to_the_descriptors(directory: Path) -> None:
    """In a forked child text and messages go the way of any subprocess' output, and nothing else goes anywhere."""
    printed = children.run(
        """
        import sys
        from pathlib import Path
        from tests.unit.journals import begin, open_journal

        journal = open_journal(Path(sys.argv[1]))
        writer = begin(journal)
        journal.divert()
        writer.write(1, "printed\\n")
        writer.event(b"{}")
        writer.log("INFO", "logger", "logged to stderr")
        writer.end(b"{}")
        """,
        directory,
    )
    assert printed == "printed\n"
    assert [frame.kind for frame in frames(directory)] == [BEGIN]
