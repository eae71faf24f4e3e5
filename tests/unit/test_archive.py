"""The archive: what was stored comes back, only what is needed is fetched, and damage shows as a gap."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.attempts import Attempt
from celery_livelog.errors import ArchiveError
from celery_livelog.names import safe_name
from celery_livelog.records import Gap, Line, Record, decode, encode
from celery_livelog.stores import seekable
from celery_livelog.stores.archive import Archive, Manifest

TASK = "5bd4b8f2-6a6b-4a0e-9d8c-2f4f7a1f9c11"
TIME = "2026-03-01T12:00:00.000000+00:00"


def line(n: int) -> Line:
    """A record as tasks print them."""
    return Line(n=n, timestamp=TIME, stream="stdout", line=f"step {n}: checking the widget {n * 7919 % 10_007} of many")


def noise(n: int) -> Line:
    """A record that hardly gets smaller."""
    return Line(n=n, timestamp=TIME, stream="stdout", line=hashlib.sha512(b"%d" % n).hexdigest())


def gap(first: int, last: int) -> Gap:
    """A gap as the shipper archives it."""
    return Gap(n=last, timestamp=TIME, skipped=last - first + 1, first=first, last=last, reason="overload")


def start(record: Record) -> int:
    """The first number that a record stands for."""
    return record.first if isinstance(record, Gap) else record.n


def store(archive: Archive, *segments: list[Record], **attempt: Any) -> Manifest:
    """Archive an attempt with these segments."""
    manifest = Manifest(attempt=Attempt(**{"task_id": TASK, "attempt": "00aa11bb", "started": TIME, **attempt}))
    for records in segments:
        manifest.segments.append(
            archive.put_segment(
                manifest.attempt.task_id,
                manifest.attempt.attempt,
                [encode(record) for record in records],
                start(records[0]),
                records[-1].n,
            )
        )
    archive.put_manifest(manifest)
    return manifest


def read(archive: Archive, manifest: Manifest, after: int = 0) -> list[Record]:
    """All records after a number."""

    async def collect() -> list[Record]:
        return [decode(line) async for batch in archive.read(manifest, after) for line in batch]

    return asyncio.run(collect())


def tail(archive: Archive, manifest: Manifest, count: int) -> list[Record]:
    """The last records."""
    return read(archive, manifest, asyncio.run(archive.tail(manifest, count)))


def manifests(archive: Archive, task_id: str = TASK) -> list[Manifest]:
    """What the archive has of a task."""
    return asyncio.run(archive.manifests(task_id))


class Counting:
    """A store that notes the ranges that are read from it."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.ranges: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def get_range_async(self, path: str, *, start: int, end: int) -> Any:
        self.ranges.append(end - start)
        return await self.store.get_range_async(path, start=start, end=end)


class Lying:
    """A store that changes what it is given without a word."""

    def __init__(self, store: Any, change: Callable[[bytes], bytes | None]) -> None:
        self.store = store
        self.change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def put(self, path: str, data: bytes, **options: Any) -> None:
        changed = self.change(data)
        if changed is not None:
            self.store.put(path, changed, **options)


class Failing:
    """A store that cannot be reached."""

    def __getattr__(self, name: str) -> Any:
        raise OSError("connection refused\nwith a page of details")


def wrap(archive: Archive, wrapper: Callable[[Any], Any]) -> Any:
    """Put something between an archive and its store."""
    wrapped = wrapper(archive._objects._store)
    archive._objects.__dict__["_store"] = wrapped
    return wrapped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "an archive"


@pytest.fixture
def archive(folder: Path) -> Archive:
    return Archive(folder.as_uri())


def test_records_come_back_in_order(archive: Archive) -> None:
    """All segments of an attempt are read as one log."""
    records: list[Record] = [line(n) for n in range(1, 2001)]
    store(archive, records[:1500], records[1500:])

    (manifest,) = manifests(archive)
    assert read(archive, manifest) == records


def test_a_segment_says_what_it_holds(archive: Archive, folder: Path) -> None:
    """Name, numbers, sizes and the CRC of a segment are those of the file."""
    records: list[Record] = [gap(8, 22), *(line(n) for n in range(23, 2000))]
    (segment,) = store(archive, records).segments

    file = folder / "tasks" / TASK / "00aa11bb" / "8.jsonl.zst"
    assert (segment.name, segment.first, segment.last, segment.records) == (file.name, 8, 1999, len(records))
    assert (segment.size, segment.crc32) == (file.stat().st_size, zlib.crc32(file.read_bytes()))
    assert segment.raw_bytes == sum(len(encode(record)) + 1 for record in records)
    assert segment.frames[0] == 8
    assert len(segment.frames) > 1


def test_zstdcat_shows_the_records(archive: Archive, folder: Path) -> None:
    """A person with nothing but zstd can read an archived log."""
    records: list[Record] = [line(n) for n in range(1, 2001)]
    store(archive, records)

    file = folder / "tasks" / TASK / "00aa11bb" / "1.jsonl.zst"
    try:
        shown = subprocess.run(["zstdcat", file], capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("zstdcat is not installed")
    assert [decode(text) for text in shown.splitlines()] == records


@given(
    numbers=st.lists(st.integers(1, 4), min_size=1, max_size=60),
    cuts=st.sets(st.integers(1, 59), max_size=4),
    after=st.integers(0, 250),
    count=st.integers(0, 70),
)
def test_any_part_of_a_log_can_be_read(numbers: list[int], cuts: set[int], after: int, count: int) -> None:
    """Reading after any number, or any tail, gives what a filter of the whole log gives, with gaps in it too."""
    records: list[Record] = []
    for width in numbers:
        n = records[-1].n if records else 0
        records.append(line(n + 1) if width == 1 else gap(n + 1, n + width))
    bounds = [0, *sorted(cut for cut in cuts if cut < len(records)), len(records)]
    archive = Archive("memory://parts")
    manifest = store(archive, *(records[a:b] for a, b in pairwise(bounds)))

    assert read(archive, manifest, after) == [record for record in records if record.n > after]
    assert tail(archive, manifest, count) == (records[-count:] if count else [])


def test_a_tail_with_gaps_spans_frames(archive: Archive) -> None:
    """In a segment with gaps the last records are counted, not computed."""
    records: list[Record] = []
    for n in range(1, 6001, 3):
        records += [line(n), gap(n + 1, n + 2)]
    manifest = store(archive, records)

    assert len(manifest.segments[0].frames) > 2
    assert tail(archive, manifest, 1500) == records[-1500:]


def test_a_tail_fetches_little(archive: Archive) -> None:
    """The last 100 of 100,000 records cost one read, and nothing of the other segments."""
    records: list[Record] = [line(n) for n in range(1, 100_001)]
    manifest = store(archive, *(records[at : at + 10_000] for at in range(0, 100_000, 10_000)))
    counting = wrap(archive, Counting)

    assert tail(archive, manifest, 100) == records[-100:]
    assert len(counting.ranges) == 1
    assert sum(counting.ranges) <= 64 * 1024


def test_a_place_in_the_middle_is_found_at_once(archive: Archive) -> None:
    """From a number to its frame it takes the seek table and one read."""
    records: list[Record] = [noise(n) for n in range(1, 10_001)]
    manifest = store(archive, records)
    counting = wrap(archive, Counting)

    async def first_batch() -> list[bytes]:
        async for batch in archive.read(manifest, after=3000):
            return batch
        return []

    assert decode(asyncio.run(first_batch())[0]) == records[3000]
    assert len(counting.ranges) == 2
    assert sum(counting.ranges) < manifest.segments[0].size / 3


def test_a_long_record_is_read_whole(archive: Archive) -> None:
    """A record that is longer than a frame, and than one read, comes back as it was."""
    long = os.urandom(700_000).hex()
    records: list[Record] = [line(1), Line(n=2, timestamp=TIME, stream="stdout", line=long), line(3)]

    assert read(archive, store(archive, records)) == records


@pytest.mark.parametrize(
    "change",
    [lambda data: None, lambda data: b"", lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])],
    ids=["drops", "empties", "truncates", "flips a bit"],
)
def test_a_store_that_lies_is_noticed(archive: Archive, change: Callable[[bytes], bytes | None]) -> None:
    """What does not come back as it was sent is not stored, and that is said in one line."""
    store(archive, [line(1)])
    wrap(archive, lambda store: Lying(store, change))

    with pytest.raises(ArchiveError) as segment_error:
        archive.put_segment(TASK, "00aa11bb", [encode(line(2))], 2, 2)
    with pytest.raises(ArchiveError) as manifest_error:
        archive.put_manifest(Manifest(attempt=Attempt(task_id=TASK, attempt="22cc33dd")))
    assert "2.jsonl.zst" in str(segment_error.value)
    assert "manifest.json" in str(manifest_error.value)
    assert "\n" not in f"{segment_error.value}{manifest_error.value}"


def test_a_store_that_fails_is_an_error(archive: Archive) -> None:
    """A store that cannot be reached is an error of one line, never an empty or a damaged log."""
    manifest = store(archive, [line(1)])
    wrap(archive, lambda store: Failing())

    for action in (
        lambda: archive.put_manifest(manifest),
        lambda: manifests(archive),
        lambda: read(archive, manifest),
    ):
        with pytest.raises(ArchiveError, match=r"connection refused$"):
            action()


@pytest.fixture(scope="module")
def damageable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, Manifest, Path, bytes]:
    """An archived log of several frames in three segments, and the middle segment's file."""
    folder = tmp_path_factory.mktemp("damage")
    archive = Archive(folder.as_uri())
    records: list[Record] = [noise(n) for n in range(1, 2401)]
    manifest = store(archive, records[:100], records[100:2300], records[2300:])
    file = folder / manifest.path / manifest.segments[1].name
    return archive, manifest, file, file.read_bytes()


def assert_whole(records: list[Record], last: int, lost: int) -> None:
    """Every number is there once, as its record or in a gap, and no more than `lost` are in gaps."""
    reached = 0
    for record in records:
        assert start(record) == reached + 1
        reached = record.n
        if isinstance(record, Gap):
            assert record.reason == "lost"
            lost -= record.skipped
        else:
            assert record == noise(record.n)
    assert reached == last
    assert lost >= 0


@given(at=st.integers(0, 1 << 20), flip=st.integers(1, 255))
def test_a_damaged_byte_costs_one_frame_at_most(
    damageable: tuple[Archive, Manifest, Path, bytes], at: int, flip: int
) -> None:
    """Wherever a segment is damaged, all other frames are read, and the hole shows as a gap of its size."""
    archive, manifest, file, packed = damageable
    damaged = bytearray(packed)
    damaged[at % len(packed)] ^= flip
    file.write_bytes(damaged)

    frames = manifest.segments[1].frames
    widest = max(there - here for here, there in zip(frames, [*frames[1:], 2301], strict=True))
    assert_whole(read(archive, manifest), 2400, widest)


def test_a_damaged_seek_table_costs_nothing(damageable: tuple[Archive, Manifest, Path, bytes]) -> None:
    """Whatever byte of a seek table is damaged, all frames are found."""
    archive, manifest, file, packed = damageable
    for at in range(seekable.offsets(packed, len(packed))[-1], len(packed)):
        file.write_bytes(packed[:at] + bytes([packed[at] ^ 0x81]) + packed[at + 1 :])
        assert_whole(read(archive, manifest), 2400, 0)


@given(at=st.integers(0, 1 << 20))
def test_a_cut_segment_gives_what_is_left(damageable: tuple[Archive, Manifest, Path, bytes], at: int) -> None:
    """A segment that lost its end is read as far as its frames are whole."""
    archive, manifest, file, packed = damageable
    left = at % (len(packed) + 1)
    file.write_bytes(packed[:left])

    whole = sum(offset <= left for offset in seekable.offsets(packed, len(packed))[1:])
    lost = 2301 - [*manifest.segments[1].frames, 2301][whole]
    assert_whole(read(archive, manifest), 2400, lost)


def test_a_missing_segment_is_a_gap(archive: Archive, folder: Path) -> None:
    """A segment that is gone shows as one gap, at the end of the log too."""
    records: list[Record] = [line(n) for n in range(1, 31)]
    manifest = store(archive, records[:10], records[10:20], records[20:])
    for name in ("11.jsonl.zst", "21.jsonl.zst"):
        (folder / manifest.path / name).unlink()

    *there, missing = read(archive, manifest)
    assert there == records[:10]
    assert isinstance(missing, Gap)
    assert (missing.n, missing.first, missing.last, missing.skipped, missing.reason) == (30, 11, 30, 20, "lost")
    assert read(archive, manifest, after=15)[0].text == "[15 messages skipped]"
    assert len(tail(archive, manifest, 5)) == 1


def test_noise_in_place_of_records_is_damage(archive: Archive) -> None:
    """A frame that is whole but holds no records is a hole like any other."""
    manifest = store(archive, [line(1)], [line(2)], [line(3)])
    for frame in ([b"not json"], [b'{"n":"2"}'], [b'{"n":2,"timestamp":"\xff"}'], [b""], [b"[" * 100_000]):
        archive._objects.put(f"{manifest.path}/2.jsonl.zst", seekable.pack(frame)[0])
        assert [record.text for record in read(archive, manifest)][1] == "[1 messages skipped]"


def test_the_manifest_is_flat_and_complete(archive: Archive, folder: Path) -> None:
    """Outside readers find the attempt's fields at the top of the manifest, those with default values too."""
    manifest = store(archive, [line(1)])
    text = json.loads((folder / manifest.path / "manifest.json").read_bytes())

    assert text.keys() >= {"state", "lines", "bytes", "skipped", "segments", "complete", "version", "exit_code"}
    assert (text["task_id"], text["attempt"], text["state"], text["version"]) == (TASK, "00aa11bb", "STARTED", 1)
    assert text["segments"][0]["crc32"] == manifest.segments[0].crc32
    assert manifests(archive) == [manifest]


def test_a_manifest_is_rewritten_in_place(archive: Archive) -> None:
    """A running attempt is listed too; the last manifest that was put counts."""
    manifest = store(archive, [line(1)])
    assert not manifests(archive)[0].complete

    manifest.complete = True
    manifest.attempt.state, manifest.attempt.exit_code = "SUCCESS", 0
    archive.put_manifest(manifest)
    assert manifests(archive) == [manifest]


def test_attempts_come_in_order_of_start(archive: Archive) -> None:
    """A task's attempts are listed by start, whatever their ids; other tasks' are not."""
    for second, attempt in enumerate(["bbbbbbbb", "cccccccc", "aaaaaaaa"]):
        store(archive, attempt=attempt, started=f"2026-03-01T12:00:0{second}.000000+00:00")
    store(archive, task_id="another")

    assert [manifest.attempt.attempt for manifest in manifests(archive)] == ["bbbbbbbb", "cccccccc", "aaaaaaaa"]
    assert manifests(archive, "unknown") == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"version":1}', b"[" * 100_000])
def test_a_damaged_manifest_is_left_out(
    archive: Archive, folder: Path, text: bytes, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that cannot be read hides its own attempt only, and is complained about."""
    monkeypatch.setattr("celery_livelog.errors._last_said", {})
    whole = store(archive, [line(1)])
    damaged = store(archive, [line(1)], attempt="22cc33dd")
    (folder / damaged.path / "manifest.json").write_bytes(text)

    assert manifests(archive) == [whole]
    assert capfd.readouterr().err.count(damaged.path) == 1


def test_a_manifest_of_a_later_version_is_left_out(archive: Archive, folder: Path) -> None:
    """What a later version of the archive means is not guessed."""
    file = folder / store(archive).path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"version":1', b'"version":2'))

    assert manifests(archive) == []


def test_a_manifest_belongs_to_its_folder(archive: Archive, folder: Path) -> None:
    """A manifest that names another task or attempt than its folder is not returned."""
    store(archive)
    other_task = store(archive, task_id="another")
    other_attempt = store(archive, attempt="22cc33dd")
    for path in (other_task.path, other_attempt.path):
        (folder / f"tasks/{TASK}/00aa11bb/manifest.json").write_bytes((folder / path / "manifest.json").read_bytes())
        assert [manifest.attempt.attempt for manifest in manifests(archive)] == ["22cc33dd"]


def test_segments_without_a_manifest_do_not_count_yet(archive: Archive) -> None:
    """Between the first segment and the first manifest an attempt is not there, without any complaint."""
    archive.put_segment(TASK, "00aa11bb", [encode(line(1))], 1, 1)

    assert manifests(archive) == []


def test_a_folder_that_does_not_exist_is_empty(archive: Archive, folder: Path) -> None:
    """Reading before the first write finds nothing and makes nothing; it works once there is something."""
    assert manifests(archive) == []
    assert not folder.exists()

    manifest = store(archive, [line(1)])
    assert manifests(archive) == [manifest]


def test_folders_are_private(archive: Archive, folder: Path, tmp_path: Path) -> None:
    """All that the archive makes is for its user alone, even with a generous umask."""
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        manifest = store(archive, [line(1)])
    finally:
        os.umask(before)

    for made in (folder, folder / "tasks", folder / "tasks" / TASK, folder / manifest.path):
        assert made.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_shared_stays_shared(archive: Archive, folder: Path) -> None:
    """Who may read an archive whose folder the user made is what the user said."""
    folder.mkdir()
    folder.chmod(0o750)
    manifest = store(archive, [line(1)])

    assert (folder / manifest.path).stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("name", ["with space", "per%20cent", "hash#1", "ümlaut", "a?b"])
def test_any_folder_can_be_the_archive(tmp_path: Path, name: str) -> None:
    """The folder of a file URL may have any name."""
    archive = Archive((tmp_path / name).as_uri())
    manifest = store(archive, [line(1)])

    assert (tmp_path / name / manifest.path / "1.jsonl.zst").is_file()
    assert manifests(archive) == [manifest]


def test_a_relative_folder_is_refused() -> None:
    """A file URL without an absolute path would mean another folder in each process."""
    with pytest.raises(ArchiveError, match="absolute"):
        Archive("file://archive")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """When the archive's folder is in the way of something, one line says so."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ArchiveError, match=r"cannot store tasks/.*/1.jsonl.zst: .*File exists"):
        store(Archive((tmp_path / "file" / "archive").as_uri()), [line(1)])


def test_an_unknown_kind_of_url_is_an_error() -> None:
    """A URL that no store understands is an error at the first use."""
    with pytest.raises(ArchiveError, match="cannot store"):
        store(Archive("ftp://host/archive"), [line(1)])


def test_memory_is_shared_within_the_process() -> None:
    """Archives with one memory URL are one archive; another URL is another."""
    manifest = store(Archive("memory://shared"), [line(1)])

    assert read(Archive("memory://shared"), manifests(Archive("memory://shared"))[0]) == [line(1)]
    assert manifests(Archive("memory://other")) == []
    assert manifests(Archive("memory://shared")) == [manifest]


@pytest.mark.parametrize("url", ["memory://", "file:///data/logs", "s3://bucket/prefix/"])
def test_a_place_is_a_url(url: str) -> None:
    """The place of an attempt is the URL of the archive and the path below it."""
    assert (
        Archive(url).place("abc", "00aa11bb")
        == f"{url.rstrip('/') if url[0] != 'm' else 'memory:/'}/tasks/abc/00aa11bb"
    )


PLAIN = [TASK, "a", "0", "build.42", "a" * 128, "x_y-z..1"]
STRANGE = ["", ".", "..", "A", "a/b", "a\\b", "/etc/passwd", "../../x", "a\0b", "é", "%2e%2e", "_a", "-a", ".a", "a\n"]
STRANGE += ["a" * 129, "a" * 10_000, "\ud800", "a b", "~", "a#1", "CON", safe_name("..")]


@pytest.mark.parametrize("task_id", PLAIN)
def test_a_plain_id_stays_readable(task_id: str) -> None:
    """Ids such as UUIDs are the names of their folders."""
    assert safe_name(task_id) == task_id


@pytest.mark.parametrize("task_id", STRANGE)
def test_a_strange_id_is_hashed(task_id: str, archive: Archive, folder: Path) -> None:
    """Any other id has a folder of its own in the right place, and is found again."""
    assert safe_name(task_id) not in {task_id, *PLAIN}
    if "\ud800" not in task_id:
        manifest = store(archive, [line(1)], task_id=task_id)
        assert manifests(archive, task_id) == [manifest]
        assert [path.name for path in (folder / "tasks").iterdir()] == [safe_name(task_id)]


@given(st.lists(st.text(max_size=20) | st.text("aA.%/_", max_size=4), unique=True))
def test_no_two_ids_share_a_name(task_ids: list[str]) -> None:
    """Names differ as the ids do, even where cases are not told apart, and are safe everywhere."""
    names = [safe_name(task_id) for task_id in task_ids]

    assert len({name.casefold() for name in names}) == len(task_ids)
    assert all(re.fullmatch(r"[_0-9a-z][0-9a-z._-]{0,127}", name) for name in names)


def test_one_process_reads_while_another_writes(archive: Archive) -> None:
    """While a manifest is rewritten again and again, each reading sees one of its states."""
    manifest = store(archive, [line(1)])
    program = (
        "import sys; from celery_livelog.stores.archive import Archive, Manifest\n"
        "archive = Archive(sys.argv[1]); manifest = Manifest.from_json(sys.argv[2].encode())\n"
        "for lines in range(300):\n"
        "    manifest.attempt.lines = lines; manifest.attempt.reason = 'x' * lines * 50\n"
        "    archive.put_manifest(manifest)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, archive.url, manifest.to_json().decode()]) as writer:
        seen = set()
        while writer.poll() is None:
            ((attempt, segments),) = [(found.attempt, found.segments) for found in manifests(archive)]
            assert segments == manifest.segments
            assert len(attempt.reason) == attempt.lines * 50
            seen.add(attempt.lines)
    assert writer.returncode == 0
    assert len(seen) > 1


def test_after_a_fork_there_is_an_error_instead_of_a_wait(folder: Path) -> None:
    """A process that was forked from one that used an archive is told so; it would hang."""
    program = (
        "import os, sys\n"
        "from celery_livelog.errors import ArchiveError\n"
        "from celery_livelog.stores.archive import Archive\n"
        "archive = Archive(sys.argv[1])\n"
        "put = lambda n: archive.put_segment('a', 'b', [b'{\"n\":1,\"timestamp\":\"\"}'], n, n)\n"
        "put(1)\n"
        "if os.fork() == 0:\n"
        "    try: put(2)\n"
        "    except ArchiveError as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, folder.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "forked" in shown
