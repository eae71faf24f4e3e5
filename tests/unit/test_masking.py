"""``mask(value)``: in the journal before whatever is written after it, and never an exception."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import celery_livelog
from celery_livelog import masking
from celery_livelog.frames import MASK, STDOUT, TEXT
from celery_livelog.journal import Journal
from celery_livelog.records import Gap
from celery_livelog.writer import AttemptWriter, current
from tests.unit import journals


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_kept", {})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = journals.open_journal(tmp_path)
    yield journal
    journal.close()


@pytest.fixture
def writer(journal: Journal) -> Iterator[AttemptWriter]:
    """The attempt that runs."""
    writer = journals.begin(journal)
    token = current.set(writer)
    yield writer
    current.reset(token)


def test_in_a_task(writer: AttemptWriter, tmp_path: Path) -> None:
    """It holds from there on, for what is on its way as well as for all that comes."""
    writer.write(STDOUT, "before hunter22\n")
    writer.write(STDOUT, "begun hun")
    celery_livelog.mask("hunter22")
    writer.write(STDOUT, "ter22\n")
    writer.end(journals.ENDING)
    found = journals.records(tmp_path)
    assert journals.lines(found) == [("stdout", "before hunter22"), ("stdout", "begun ***")]
    assert masking.masked() == []


def test_outside_of_a_task() -> None:
    """It is kept for the attempts that begin later, once."""
    for value in ("hunter22", "other-secret", "hunter22"):
        celery_livelog.mask(value)
    assert masking.masked() == [b"hunter22", b"other-secret"]


def test_after_the_end_of_a_task(writer: AttemptWriter, tmp_path: Path) -> None:
    """A thread that outlives its task masks for the next ones."""
    writer.end(journals.ENDING)
    celery_livelog.mask("hunter22")
    assert masking.masked() == [b"hunter22"]
    assert MASK not in [frame.kind for frame in journals.frames(tmp_path)]


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("multi\nline-secret", [b"multi\nline-secret"]),
        (b"\xff\x00secret", [b"\xff\x00secret"]),
        (bytearray(b"secret"), [b"secret"]),
        ("\udcffsecret", [b"\xffsecret"]),
        ("\ud800secret", [b"\\ud800secret"]),
        (123456, [b"123456"]),
        ("short", []),
        (None, []),
        (_Unprintable(), []),
    ],
)
def test_any_value(value: Any, kept: list[bytes]) -> None:
    """Text, bytes, anything; what is too short or has no text is passed over."""
    celery_livelog.mask(value)
    assert masking.masked() == kept


def test_a_large_value(writer: AttemptWriter, tmp_path: Path) -> None:
    """More than a frame may hold goes into several."""
    celery_livelog.mask(b"x" * (20 * 1024 * 1024))
    assert sum(len(frame.payload) for frame in journals.frames(tmp_path) if frame.kind == MASK) == 20 * 1024 * 1024


def test_the_number_kept_is_bounded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that masks for ever does not grow for ever; that older ones are let go is said."""
    said: list[str] = []
    monkeypatch.setattr(masking, "_MOST_KEPT", 3)
    monkeypatch.setattr(masking, "complain", said.append)
    for number in range(5):
        celery_livelog.mask(f"secret-{number}")
    assert masking.masked() == [b"secret-2", b"secret-3", b"secret-4"]
    assert len(said) == 2


def test_a_forked_child_inherits_what_was_masked() -> None:
    """As a child of the pool does from the main process."""
    celery_livelog.mask("hunter22")
    child = os.fork()
    if not child:
        os._exit(0 if masking.masked() == [b"hunter22"] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_text_goes_before_its_mask(writer: AttemptWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk takes no mask, text is counted instead of written; when it has room again, the mask goes first."""
    append = Journal.append
    monkeypatch.setattr(Journal, "append", lambda self, kind, *a, **k: kind == TEXT and append(self, kind, *a, **k))
    celery_livelog.mask("hunter22")
    writer.write(STDOUT, "hunter22 is lost\n")
    monkeypatch.setattr(Journal, "append", append)
    writer.write(STDOUT, "hunter22 is hidden\n")
    writer.end(journals.ENDING)
    found = journals.records(tmp_path)
    assert journals.lines(found) == [("stdout", "*** is hidden")]
    assert [record.skipped for record in found if isinstance(record, Gap)] == [1]


@pytest.mark.parametrize("given", [None, [], ()])
def test_a_task_without_patterns(given: Any) -> None:
    """Most have none, or no attribute at all."""
    assert masking.patterns_of(SimpleNamespace(name="t", livelog_redact=given)) == []
    assert masking.patterns_of(SimpleNamespace(name="t")) == []


@pytest.mark.parametrize("given", [["fine", "("], "(", [r"a*"], 5, [5], [b"bytes"]])
def test_a_task_with_bad_patterns(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a task calls its patterns, the task runs; the worker's log says what is wrong with them."""
    assert masking.patterns_of(SimpleNamespace(name="proj.t", livelog_redact=given)) is None
    (said,) = caplog.messages
    assert said.startswith("livelog_redact of task proj.t: ")
