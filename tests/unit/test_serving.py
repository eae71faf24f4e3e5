"""What a worker serves of its archive: so much a second, nothing but what lies there, and what askers make of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog import serving
from celery_livelog.attempts import Attempt
from celery_livelog.errors import ArchiveError, LivelogError
from celery_livelog.reader import elsewhere
from celery_livelog.reader.elsewhere import Elsewhere
from celery_livelog.serving import MOST_BYTES, Serving
from celery_livelog.stores.archive import Archive, Manifest
from celery_livelog.stores.manifest import attempt_path, folder_of

ATTEMPT = Attempt(attempt="0123456789abcdef", task_id="a task", worker="worker@host", ended="2026-01-02T03:04:05+00:00")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An archive that holds one attempt, of one segment."""
    archive = Archive((tmp_path / "archive").as_uri())
    lines = [b'{"type":"log_line","n":%d,"timestamp":"","stream":"stdout","line":"x"}' % n for n in range(1, 4)]
    segment = archive.put_segment(ATTEMPT.task_id, ATTEMPT.attempt, lines, 1, 3)
    archive.put_manifest(Manifest(attempt=ATTEMPT, segments=[segment], complete=True))
    return archive


@pytest.fixture
def asked(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """Asks one that serves this archive as if it were a worker."""
    served = Serving(folder_of(archive.url))

    def broadcast(question: dict[str, Any], timeout: float, **to: Any) -> dict[str, Any]:
        answer = served.answer(*question.values())
        return {"worker@host": elsewhere.msgspec.convert(answer, elsewhere._Answer)}

    asking = Elsewhere(Celery())
    monkeypatch.setattr(asking, "_broadcast", broadcast)
    return asking


def test_so_many_answers_a_second(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(serving, "monotonic", lambda: now[0])
    served = Serving(folder_of(archive.url))

    def answers() -> int:
        found = [served.answer(ATTEMPT.task_id, ATTEMPT.attempt, "manifest.json", 0, 1) for _ in range(300)]
        return sum("data" in answer for answer in found)

    assert answers() == 100
    now[0] += 1
    assert answers() == 50
    now[0] += 3600
    assert answers() == 100


def test_who_is_told_to_wait_asks_again(asked: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_AT_ONCE", 1.0)
    monkeypatch.setattr(elsewhere, "_BUSY_SECONDS", 0.01)

    async def read() -> int:
        manifest = await asked.manifest(ATTEMPT)
        assert manifest is not None
        return sum([len(lines) async for lines in asked.read(manifest, 0)])

    assert asyncio.run(read()) == 3


def test_who_is_told_to_wait_for_ever_gives_up(asked: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.Serving, "_is_free", lambda self: False)
    monkeypatch.setattr(elsewhere, "_BUSY_SECONDS", 0.0)
    with pytest.raises(ArchiveError, match="asked for too much"):
        asyncio.run(asked.manifest(ATTEMPT))


def test_a_manifest_of_many_answers(asked: Elsewhere, archive: Archive) -> None:
    """It goes on where an answer ends, and is the same in the end."""
    long = Attempt(**{**elsewhere.msgspec.structs.asdict(ATTEMPT), "args": "x" * 3 * MOST_BYTES})
    archive.put_manifest(Manifest(attempt=long, complete=True))
    found = asyncio.run(asked.manifest(ATTEMPT))
    assert found is not None
    assert found.attempt.args == long.args


def test_the_manifest_of_another_attempt_is_refused(asked: Elsewhere, archive: Archive) -> None:
    path = folder_of(archive.url) / attempt_path("another", ATTEMPT.attempt)
    path.mkdir(parents=True)
    (path / "manifest.json").write_bytes(Manifest(attempt=ATTEMPT, complete=True).to_json())
    with pytest.raises(ArchiveError, match="another attempt"):
        asyncio.run(asked.manifest(Attempt(attempt=ATTEMPT.attempt, task_id="another", worker="worker@host")))


@given(
    task_id=st.one_of(st.text(max_size=30), st.sampled_from(["..", "../secret", "/etc", "a/../../b", "\ud800"])),
    attempt=st.one_of(st.text(max_size=20), st.sampled_from(["..", ".", "../..", "a/b", "0123456789abcdef"])),
    name=st.one_of(st.text(max_size=20), st.sampled_from(["manifest.json", "1.jsonl.zst", "../secret", "secret"])),
    start=st.integers(),
    end=st.one_of(st.integers(), st.booleans(), st.none()),
)
def test_nothing_is_read_but_segments_and_manifests(
    task_id: str, attempt: str, name: str, start: int, end: Any
) -> None:
    """Whatever is asked for: the path has four parts below the archive and the last one is of the two kinds."""
    opened: list[Path] = []

    def path_of(served: Serving, *asked: object) -> Path:
        opened.append(real(served, *asked))
        return opened[-1]

    real: Callable[..., Path] = Serving._path
    folder = Path("/nonexistent/archive")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Serving, "_path", path_of)
        try:
            assert Serving(folder).answer(task_id, attempt, name, start, end) == {"absent": True}
        except LivelogError:
            return
    (path,) = opened
    assert path.parts[:4] == (*folder.parts, "tasks")
    assert len(path.parts) == 7
    assert not {".", "..", ""} & {*path.parts}
    assert path.name == "manifest.json" or path.name.endswith(".jsonl.zst")


def test_what_is_no_file_is_absent(archive: Archive) -> None:
    """A link that somebody has put there leads nowhere."""
    folder = folder_of(archive.url) / attempt_path(ATTEMPT.task_id, ATTEMPT.attempt)
    (folder / "7.jsonl.zst").symlink_to("/etc/passwd")
    (folder / "8.jsonl.zst").mkdir()
    served = Serving(folder_of(archive.url))
    assert served.answer(ATTEMPT.task_id, ATTEMPT.attempt, "8.jsonl.zst", 0, 10) == {"absent": True}
    with pytest.raises(OSError, match="symbolic links"):
        served.answer(ATTEMPT.task_id, ATTEMPT.attempt, "7.jsonl.zst", 0, 10)
    answer = served.answer(ATTEMPT.task_id, ATTEMPT.attempt, "1.jsonl.zst", 0, 4)
    assert base64.b64decode(answer["data"]) == b"\x28\xb5\x2f\xfd"
