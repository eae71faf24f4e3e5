"""``livelog verify``: an archive that is sound is said to be, and whatever is damaged is found and named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from celery_livelog.attempts import Attempt
from celery_livelog.cli import livelog
from celery_livelog.records import End, Gap, Line, Record, decode, encode
from celery_livelog.stores import audit as audit_module
from celery_livelog.stores import seekable
from celery_livelog.stores.archive import Archive, Manifest
from tests.unit.test_archive import read, start

AT = "2026-01-02T03:04:05.000006+00:00"
Change = Callable[[dict[str, Any]], Any]


def line(n: int) -> Line:
    return Line(n=n, timestamp=AT, stream="stdout", line=f"{n} {os.urandom(30).hex()}")


def store(archive: Archive, task_id: str = "a-task", name: str = "00aa11bb", complete: bool = True) -> Manifest:
    """A log of four segments of several frames each, with a gap of ten lines in the second."""
    attempt = Attempt(attempt=name, task_id=task_id, started=AT, ended=AT, state="SUCCESS", exit_code=0)
    attempt.lines, attempt.skipped = 4000 - 11, 10
    records: list[Record] = [line(n) for n in range(1, 4000)]
    records[1500:1510] = [Gap(n=1510, timestamp=AT, skipped=10, first=1501, last=1510, reason="overload")]
    records.append(End(n=4000, timestamp=AT, state="SUCCESS", exit_code=0))
    manifest = Manifest(attempt=attempt, complete=complete)
    for at in range(0, 4000, 1000):
        part = [record for record in records if at < record.n <= at + 1000]
        lines = [encode(record) for record in part]
        manifest.segments.append(archive.put_segment(task_id, name, lines, start(part[0]), part[-1].n))
    archive.put_manifest(manifest)
    return manifest


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "_MOMENT", 0.0)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive((tmp_path / "archive").as_uri())


@pytest.fixture
def folder(archive: Archive, tmp_path: Path) -> Path:
    """The folder of an archived log that is sound."""
    return tmp_path / "archive" / store(archive).path


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., Result]:
    """Run ``livelog verify``."""

    def run(*arguments: str, url: str = (tmp_path / "archive").as_uri()) -> Result:
        app = SimpleNamespace(conf={"livelog_dir": str(tmp_path), "livelog_archive_url": url})
        context = SimpleNamespace(app=app, no_color=False)
        return CliRunner().invoke(livelog, ["verify", *arguments], obj=context, catch_exceptions=False)

    return run


def findings(result: Result) -> list[tuple[str, str, int, int]]:
    """Segment, what, and the lines that it costs."""
    found = [json.loads(text) for text in result.stdout.splitlines()]
    return [(one["segment"], one["what"], one["first"], one["last"]) for one in found]


def change_manifest(folder: Path, change: Change) -> None:
    said = json.loads((folder / "manifest.json").read_bytes())
    change(said)
    (folder / "manifest.json").write_text(json.dumps(said))


def test_a_sound_archive(archive: Archive, folder: Path, verify: Callable[..., Result]) -> None:
    """Nothing on stdout, the sum on stderr, exit code 0; running tasks are no damage."""
    store(archive, "another/task", "22cc33dd", complete=False)
    result = verify()
    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 logs, 8 segments, 7982 records" in result.stderr
    assert "1 not complete yet: nothing is damaged" in result.stderr
    assert verify("another/task", "--json").exit_code == 0


def test_every_damaged_byte_is_found_and_costs_its_block(
    archive: Archive, folder: Path, verify: Callable[..., Result]
) -> None:
    """A bit flipped anywhere: it is found, all other blocks are read, and a gap stands where the block was."""
    (manifest,) = [Manifest.from_json((folder / "manifest.json").read_bytes())]
    segment, path = manifest.segments[2], folder / "2001.jsonl.zst"
    packed = path.read_bytes()
    sound = {record.n: record for record in read(archive, manifest)}
    blocks = list(zip(segment.frames, [*segment.frames[1:], segment.last + 1], strict=True))
    assert len(blocks) > 1
    table = seekable.offsets(packed, len(packed))[-1]
    for at in range(0, len(packed), 997):
        damaged = bytearray(packed)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        ((name, what, first, last),) = findings(verify("--json", "a-task"))
        assert (name, "CRC" in what) == (segment.name, True)
        assert ((first, last + 1) in blocks) == (at < table)
        *_, gap = [record for record in read(archive, manifest) if isinstance(record, Gap)]
        there = {record.n: record for record in read(archive, manifest)}
        if at < table:
            assert (gap.first, gap.last, gap.reason) == (first, last, "lost")
            assert there == {n: record for n, record in sound.items() if not first <= n <= last} | {last: gap}
        else:
            assert there == sound


def test_what_is_said_of_damage(folder: Path, verify: Callable[..., Result]) -> None:
    """A line for people: which task, attempt, segment, and which lines it costs."""
    path = folder / "3001.jsonl.zst"
    path.write_bytes(path.read_bytes()[:-3])
    result = verify()
    size = path.stat().st_size + 3
    assert result.exit_code == 1
    assert result.stdout == (
        f"task a-task attempt 00aa11bb: segment 3001.jsonl.zst: 3 bytes short of {size}: all lines can be read\n"
    )
    path.write_bytes(path.read_bytes()[: size * 9 // 10])
    ((_, what, first, last),) = findings(verify("--json"))
    assert (last, what.endswith(f"lines {first}-4000 are lost")) == (4000, True)
    assert 3001 < first < 4000


def test_a_missing_segment(folder: Path, verify: Callable[..., Result]) -> None:
    (folder / "1001.jsonl.zst").unlink()
    assert findings(verify("--json")) == [
        ("1001.jsonl.zst", "is missing: lines 1001-2000 are lost", 1001, 2000)
    ]  # fmt: skip


def test_longer_than_it_was(folder: Path, verify: Callable[..., Result]) -> None:
    with (folder / "1.jsonl.zst").open("ab") as file:
        file.write(b"more")
    ((name, what, _, _),) = findings(verify("--json"))
    assert (name, "4 bytes more than" in what) == ("1.jsonl.zst", True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda said: said["segments"].reverse(), "out of order: it starts with line 2001 after line 4000"),
        (lambda said: said["segments"].pop(1), "lines 1001-2000 are in no segment"),
        (lambda said: said["segments"].pop(3), "the manifest does not know 3001.jsonl.zst"),
        (lambda said: said["segments"].pop(3), "the log has no end although it is said to be complete"),
        (lambda said: said.update(lines=7), "the manifest says 7 lines; in the segments are 3989"),
        (lambda said: said.update(skipped=0), "the manifest says 0 skipped; in the segments are 10"),
        (lambda said: said["segments"][1].update(records=1), "the manifest says 1 records; there are 991"),
        (lambda said: said.update(task_id="another"), "manifest.json is that of tasks/another/00aa11bb"),
        (lambda said: said.pop("segments") and said.update(version=2), "manifest.json is not a manifest"),
    ],
)
def test_a_manifest_that_is_wrong(folder: Path, verify: Callable[..., Result], change: Change, expected: str) -> None:
    """It is compared with what is there, in both directions."""
    change_manifest(folder, change)
    result = verify("--json")
    assert result.exit_code == 1
    assert any(expected in what for _, what, _, _ in findings(result)), result.stdout


@pytest.mark.parametrize("text", [None, b"", b"\xff{"])
def test_no_manifest(folder: Path, verify: Callable[..., Result], text: bytes | None) -> None:
    """Segments that no manifest names are read by nobody: that is damage."""
    path = folder / "manifest.json"
    path.unlink() if text is None else path.write_bytes(text)
    ((name, what, _, _),) = findings(verify("--json"))
    assert (name, "no line of" in what) == ("", True)


def test_records_of_another_place(archive: Archive, folder: Path, verify: Callable[..., Result]) -> None:
    """Whole blocks with the right CRC, but with a record twice and one not at all: the block is not trusted."""
    manifest = Manifest.from_json((folder / "manifest.json").read_bytes())
    lines = [encode(line(n)) for n in (*range(1, 500), 499, *range(501, 1001))]
    manifest.segments[0] = archive.put_segment("a-task", "00aa11bb", lines, 1, 1000)
    archive.put_manifest(manifest)
    ((name, what, first, last),) = findings(verify("--json"))
    assert (name, what) == ("1.jsonl.zst", f"not the lines that the manifest says: lines {first}-{last} are lost")
    assert first <= 500 <= last


def test_only_what_was_asked_for(archive: Archive, folder: Path, verify: Callable[..., Result]) -> None:
    """Other tasks are not read; one of which nothing is there is a finding."""
    store(archive, "sound")
    (folder / "1.jsonl.zst").unlink()
    assert verify("sound").exit_code == 0
    result = verify("sound", "unknown", "--json")
    assert (result.exit_code, findings(result)) == (1, [("", "nothing of this task is in the archive", 0, 0)])
    assert verify().stdout.count("\n") == 1


def test_hostile_ids_stay_on_their_row(archive: Archive, tmp_path: Path, verify: Callable[..., Result]) -> None:
    path = tmp_path / "archive" / store(archive, "a\x1b[2J\nb").path
    (path / "1.jsonl.zst").unlink()
    result = verify()
    assert (result.stdout.count("\n"), "\x1b" in result.stdout) == (1, False)


@pytest.mark.parametrize("url", ["file:///nowhere/at/all", "s3://127.0.0.1/x", "ftp://host/x"])
def test_an_archive_that_cannot_be_reached(
    verify: Callable[..., Result], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 and one line: that is not damage."""
    for name, value in (("AWS_ENDPOINT", "http://127.0.0.1:9"), ("AWS_ALLOW_HTTP", "1"), ("AWS_SKIP_SIGNATURE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("celery_livelog.stores.objects.RETRY", {"max_retries": 0})
    result = verify(url=url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


def test_little_memory_for_a_large_archive(archive: Archive, tmp_path: Path, verify: Callable[..., Result]) -> None:
    """Logs are read as the listing goes on, a few at a time."""
    for number in range(60):
        attempt = Attempt(attempt="aa", task_id=f"t{number}", started=AT, ended=AT, state="SUCCESS", lines=1)
        records = [line(1), End(n=2, timestamp=AT, state="SUCCESS", exit_code=0)]
        segment = archive.put_segment(attempt.task_id, "aa", [encode(record) for record in records], 1, 2)
        archive.put_manifest(Manifest(attempt=attempt, segments=[segment], complete=True))
    (tmp_path / "archive/tasks/t33/aa/1.jsonl.zst").write_bytes(b"")
    result = verify("--json")
    assert "60 logs, 60 segments, 118 records" in result.stderr
    assert [json.loads(text)["task_id"] for text in result.stdout.splitlines()] == ["t33"]
    assert decode(encode(records[1])) == records[1]
