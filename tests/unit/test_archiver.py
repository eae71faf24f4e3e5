"""The archiver: segments while a task runs, the rest and a complete manifest at its end, and only then is it done."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from celery_livelog import spool
from celery_livelog.attempts import Attempt
from celery_livelog.errors import ArchiveError
from celery_livelog.records import End, Gap, Line, Record, decode
from celery_livelog.shipper.archiver import Archiver
from celery_livelog.stores.archive import Archive, Manifest, Segment
from tests.nodes.waiting import wait_for

AT = "2026-01-02T03:04:05.000006+00:00"
MAXLEN = 10_000

Open = Callable[..., Archiver]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An archive in `tmp_path`."""
    return Archive((tmp_path / "archive").as_uri())


@pytest.fixture
def done() -> list[Attempt]:
    """The attempts that were said to be archived."""
    return []


@pytest.fixture
def secured() -> list[tuple[str, int]]:
    """Of which attempts all was said to be archived until then, and the numbers."""
    return []


@pytest.fixture
def archiver(archive: Archive, done: list[Attempt], secured: list[tuple[str, int]], tmp_path: Path) -> Iterator[Open]:
    """Open an archiver; all are closed at the end."""
    opened: list[Archiver] = []

    def start(maxlen: int = MAXLEN) -> Archiver:
        secure = lambda *args: secured.append(args)  # noqa: E731
        opened.append(Archiver(archive, maxlen, tmp_path, done.append, secure))
        return opened[-1]

    yield start
    for one in opened:
        one.close(10)


def attempt(name: str = "00aa11bb", task_id: str = "a-task") -> Attempt:
    return Attempt(attempt=name, task_id=task_id, started=AT)


def lines(first: int, last: int, size: int = 10) -> list[Record]:
    return [Line(n=n, timestamp=AT, stream="stdout", line=f"{n} ".ljust(size, "x")) for n in range(first, last + 1)]


def ended(of: Attempt, n: int) -> list[Record]:
    """The end of an attempt, which says so from now on."""
    of.state, of.ended, of.exit_code = "SUCCESS", AT, 0
    return [End(n=n, timestamp=AT, state="SUCCESS", exit_code=0)]


def manifest(archive: Archive, task_id: str = "a-task") -> Manifest | None:
    found = asyncio.run(archive.manifests(task_id))
    return found[0] if found else None


def read(archive: Archive, of: Manifest | None) -> list[Record]:
    """All records that the archive has of an attempt."""
    assert of is not None

    async def collect() -> list[Record]:
        return [decode(line) async for batch in archive.read(of) for line in batch]

    return asyncio.run(collect())


def test_a_short_log_is_one_segment(archiver: Open, archive: Archive, done: list[Attempt]) -> None:
    """What was put is what is read, and the attempt's own record says where it is."""
    running, of = archiver(), attempt()
    given = [*lines(1, 3), *ended(of, 4)]
    running.put(of, given)
    wait_for(lambda: done)
    found = manifest(archive)
    assert read(archive, found) == given
    assert found is not None
    assert (found.complete, len(found.segments), found.attempt.state) == (True, 1, "SUCCESS")
    assert (done[0].archive, done) == (archive.place("a-task", of.attempt), [found.attempt])
    wait_for(lambda: running.idle)


def test_it_is_done_only_when_it_can_be_read(archive: Archive, tmp_path: Path) -> None:
    """Whoever is told that a log is archived finds it complete: its journal may go."""
    of = attempt()
    given = [*lines(1, 3), *ended(of, 4)]
    seen: list[list[Record]] = []
    running = Archiver(archive, MAXLEN, tmp_path, lambda _: seen.append(read(archive, manifest(archive))))
    running.put(of, given)
    running.close(10)
    assert seen == [given]


@pytest.mark.parametrize(("maxlen", "count", "size"), [(MAXLEN, 12_000, 10), (100, 120, 10), (MAXLEN, 200, 20_000)])
def test_full_segments_are_archived_while_it_runs(
    archiver: Open, archive: Archive, done: list[Attempt], maxlen: int, count: int, size: int
) -> None:
    """At half of what the stream keeps, or a MiB: a late reader finds no hole between archive and stream."""
    running, of = archiver(maxlen), attempt()
    given = lines(1, count, size)
    for at in range(0, count, 7):
        running.put(of, given[at : at + 7])
    wait_for(lambda: running.idle)
    found = manifest(archive)
    assert found is not None
    assert (found.complete, done) == (False, [])
    archived = read(archive, found)
    assert archived == given[: len(archived)]
    assert count - len(archived) < maxlen // 2
    assert (count - len(archived)) * size < 1_100_000
    running.put(of, ended(of, count + 1))
    wait_for(lambda: done)
    assert [record.n for record in read(archive, manifest(archive))] == list(range(1, count + 2))


def test_a_segment_starts_where_its_gap_does(archiver: Open, archive: Archive, done: list[Attempt]) -> None:
    """The numbers of a segment are those its records stand for."""
    running, of = archiver(), attempt()
    missing = Gap(n=20, timestamp=AT, skipped=20, first=1, last=20, reason="overload")
    running.put(of, [missing, *ended(of, 21)])
    wait_for(lambda: done)
    found = manifest(archive)
    assert found is not None
    assert [(segment.first, segment.last, segment.records) for segment in found.segments] == [(1, 21, 2)]


def test_attempts_do_not_mix(archiver: Open, archive: Archive, done: list[Attempt]) -> None:
    """What two attempts print in turn is in two logs."""
    running, attempts = archiver(20), [attempt("00aa11bb", "one"), attempt("22cc33dd", "two")]
    for n in range(1, 50):
        for of in attempts:
            running.put(of, lines(n, n))
    for of in attempts:
        running.put(of, ended(of, 50))
    wait_for(lambda: len(done) == 2)
    for of in attempts:
        found = manifest(archive, of.task_id)
        assert [record.n for record in read(archive, found)] == list(range(1, 51))
        assert found is not None
        assert found.attempt in done


def test_an_archive_that_is_away_gets_all_later(
    archiver: Open, archive: Archive, done: list[Attempt], tmp_path: Path
) -> None:
    """Nothing is said to be archived while it is not; when the store is back, all is there."""
    in_its_way = tmp_path / "archive"
    in_its_way.write_text("a file where a directory should be")
    running, of, other = archiver(20), attempt(task_id="one"), attempt("22cc33dd", "two")
    given = [*lines(1, 55), *ended(of, 56)]
    running.put(of, given)
    running.put(other, ended(other, 1))
    assert not running.idle
    in_its_way.unlink()
    wait_for(lambda: len(done) == 2)
    assert read(archive, manifest(archive, "one")) == given
    assert manifest(archive, "two") is not None


def test_a_second_shipper_archives_the_same(archiver: Open, archive: Archive, done: list[Attempt]) -> None:
    """After a kill the whole attempt is put again: what was there is replaced by the same, not doubled."""
    first, of = archiver(20), attempt()
    first.put(of, lines(1, 35))
    first.close(10)
    before = manifest(archive)
    second, again = archiver(20), attempt()
    given = [*lines(1, 45), *ended(again, 46)]
    second.put(again, given)
    wait_for(lambda: done)
    found = manifest(archive)
    assert read(archive, found) == given
    assert before is not None
    assert found is not None
    assert found.segments[: len(before.segments)] == before.segments


class Away(Archive):
    """An archive that takes nothing until it is `back`."""

    back = False

    def put_packed(self, task_id: str, attempt: str, segment: Segment, data: bytes) -> None:
        if not self.back:
            raise ArchiveError("away")
        super().put_packed(task_id, attempt, segment, data)


def test_memory_stays_bounded_while_the_archive_is_away(tmp_path: Path, done: list[Attempt]) -> None:
    """However much is printed and however many tasks end: what waits is packed, and beyond 16 MiB in the spool."""
    away = Away((tmp_path / "archive").as_uri())
    running = Archiver(away, MAXLEN, tmp_path, done.append)
    given: dict[str, list[Record]] = {}
    for number in range(60):
        of = attempt(f"{number:08x}", f"task-{number}")
        noise = [Line(n=n, timestamp=AT, stream="stdout", line=os.urandom(4096).hex()) for n in range(1, 129)]
        given[of.attempt] = [*noise, *ended(of, 129)]
        running.put(of, given[of.attempt])
        assert running.held < 22_000_000
    staged = sum(path.stat().st_size for path in tmp_path.glob("*.waiting"))
    assert (staged > 5_000_000, spool.spent(tmp_path), done) == (True, staged, [])
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.glob("*.waiting"))
    away.back = True
    wait_for(lambda: len(done) == 60)
    assert {of.attempt: read(away, manifest(away, of.task_id)) for of in done} == given
    wait_for(lambda: running.idle)
    assert (running.held, list(tmp_path.glob("*.waiting"))) == (0, [])
    running.close(10)


def test_running_attempts_gather_a_bounded_number_of_bytes(tmp_path: Path, done: list[Attempt]) -> None:
    """A thousand tasks at once, each with less than a segment, do not add up without end."""
    running = Archiver(Archive((tmp_path / "archive").as_uri()), MAXLEN, tmp_path, done.append)
    attempts = [attempt(f"{number:08x}", f"task-{number}") for number in range(100)]
    for of in attempts:
        running.put(of, lines(1, 9, 100_000))
    wait_for(lambda: running.idle)
    assert running.held < 70_000_000
    for of in attempts:
        running.put(of, ended(of, 10))
    wait_for(lambda: len(done) == 100, timeout=60)
    assert running.held == 0
    running.close(10)


def test_short_attempts_wait_in_little_memory(tmp_path: Path, done: list[Attempt]) -> None:
    """What a finished attempt that waits takes is its packed bytes: nothing of it stays in memory beyond the bound."""
    away = Away((tmp_path / "archive").as_uri())
    running = Archiver(away, MAXLEN, tmp_path, done.append)
    for number in range(500):
        of = attempt(f"{number:08x}", f"task-{number}")
        running.put(of, [*lines(1, 20), *ended(of, 21)])
    assert (running.held < 500_000, running.idle) == (True, False)
    away.back = True
    wait_for(lambda: len(done) == 500)
    assert [of.task_id for of in done] == [f"task-{number}" for number in range(500)]
    running.close(10)


def test_what_an_archive_has_lost_meanwhile_is_noticed(
    archiver: Open, archive: Archive, done: list[Attempt], tmp_path: Path
) -> None:
    """Segments that were put and are gone at the end: the log is not said to be archived, and it comes once more."""
    running, of = archiver(20), attempt()
    running.put(of, lines(1, 40))
    wait_for(lambda: running.idle)
    shutil.rmtree(tmp_path / "archive")
    given = [*lines(1, 55), *ended(of, 56)]
    running.put(of, given[40:])
    wait_for(lambda: running.lost)
    assert done == []
    again = archiver(20)
    again.put(of, given, resumed=True)
    wait_for(lambda: done)
    assert read(archive, manifest(archive)) == given


def test_readers_see_no_less_while_a_second_shipper_begins(archiver: Open, archive: Archive) -> None:
    """What a shipper had archived before it was killed stays what is read until the next one has come as far."""
    first, of = archiver(20), attempt()
    first.put(of, lines(1, 35))
    first.close(10)
    before = manifest(archive)
    second = archiver(20)
    second.put(of, lines(1, 15), resumed=True)
    wait_for(lambda: second.idle)
    assert manifest(archive) == before
    second.put(of, lines(16, 45))
    wait_for(lambda: second.idle)
    assert [record.n for record in read(archive, manifest(archive))] == list(range(1, 41))


def test_what_is_secured_needs_no_journal(
    archiver: Open, archive: Archive, done: list[Attempt], secured: list[tuple[str, int]]
) -> None:
    """However little it is, it is there when that is said; another shipper goes on from there."""
    first, of = archiver(20), attempt()
    first.secure(of, 1)
    first.put(of, lines(1, 35))
    first.secure(of, 2)
    wait_for(lambda: len(secured) == 2)
    assert secured == [(of.attempt, 1), (of.attempt, 2)]
    assert [record.n for record in read(archive, manifest(archive))] == list(range(1, 36))
    first.put(of, lines(36, 48))
    first.close(10)
    second = archiver(20)
    second.put(of, [*lines(36, 61), *ended(of, 62)], resumed=True)
    wait_for(lambda: done)
    assert [record.n for record in read(archive, manifest(archive))] == list(range(1, 63))


def test_what_was_secured_and_is_lost_is_a_gap(
    archiver: Open, archive: Archive, done: list[Attempt], secured: list[tuple[str, int]], tmp_path: Path
) -> None:
    """Its journal is gone: the rest is archived, and what is not there is counted."""
    first, of = archiver(20), attempt()
    first.put(of, lines(1, 25))
    first.secure(of, 1)
    wait_for(lambda: secured)
    first.close(10)
    (tmp_path / "archive" / "tasks" / of.task_id / of.attempt / "1.jsonl.zst").unlink()
    archiver(20).put(of, [*lines(26, 30), *ended(of, 31)], resumed=True)
    wait_for(lambda: done)
    found = read(archive, manifest(archive))
    assert isinstance(found[0], Gap)
    assert [(found[0].first, found[0].last), *(record.n for record in found[1:])] == [(1, 10), *range(11, 32)]


def test_a_second_shipper_finds_no_archive(archiver: Open, archive: Archive, done: list[Attempt]) -> None:
    """The first one had come to nothing: there is not even a folder."""
    of = attempt()
    given = [*lines(1, 3), *ended(of, 4)]
    archiver().put(of, given, resumed=True)
    wait_for(lambda: done)
    assert read(archive, manifest(archive)) == given


def test_what_a_killed_shipper_has_left_in_the_archive_goes(
    archiver: Open, archive: Archive, done: list[Attempt], tmp_path: Path
) -> None:
    """Half-written files, and segments that were cut in other places, are not for ever."""
    first, of = archiver(6), attempt()
    first.put(of, lines(1, 9))
    first.close(10)
    folder = tmp_path / "archive" / "tasks" / of.task_id / of.attempt
    (folder / "1.jsonl.zst#1").write_bytes(b"half")
    given = [*lines(1, 9), *ended(of, 10)]
    archiver().put(of, given, resumed=True)
    wait_for(lambda: done)
    assert sorted(os.listdir(folder)) == ["1.jsonl.zst", "manifest.json"]
    assert read(archive, manifest(archive)) == given
