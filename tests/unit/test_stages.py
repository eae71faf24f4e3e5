"""Stages: what a task says of its steps is in its log, in order; whatever it says, the task itself is not disturbed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject, Retry
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog import counting
from celery_livelog.frames import STDOUT
from celery_livelog.records import (
    End,
    Line,
    Record,
    RunStart,
    StageComplete,
    StageError,
    StageProgress,
    StageStart,
    Trace,
    decode,
    encode,
)
from celery_livelog.run_context import run
from celery_livelog.stages import stage
from celery_livelog.writer import AttemptWriter, current
from tests.unit.journals import ENDING, begin, lines, open_journal, records


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AttemptWriter]:
    """The running task's writer."""
    journal = open_journal(tmp_path)
    writer = begin(journal)
    token = current.set(writer)
    yield writer
    current.reset(token)
    journal.close()


def told(writer: AttemptWriter, directory: Path) -> list[Record]:
    """The records of the task, now ended, without its end."""
    writer.end(ENDING)
    *found, end = records(directory)
    assert isinstance(end, End)
    return found


def test_a_stage_says_what_it_does(writer: AttemptWriter, tmp_path: Path) -> None:
    """Start, progress, events and completion are records of the log, with number, name and counts."""
    with stage("Fetch", pending=3) as fetch:
        fetch.advance(message="first")
        fetch.trace("redirected", to="elsewhere")
        fetch.advance(2)
        fetch.result({"pages": 3})
    start, progress, trace, last, complete = told(writer, tmp_path)
    assert isinstance(start, StageStart)
    assert (start.stage, start.name, start.pending) == (1, "Fetch", 3)
    assert isinstance(progress, StageProgress)
    assert (progress.done, progress.total, progress.message) == (1, 3, "first")
    assert isinstance(trace, Trace)
    assert (trace.event, trace.data, trace.stage) == ("redirected", {"to": "elsewhere"}, 1)
    assert isinstance(last, StageProgress)
    assert (last.done, last.total) == (3, 3)
    assert isinstance(complete, StageComplete)
    assert (complete.processed, complete.result) == (3, {"pages": 3})
    assert complete.elapsed >= 0


@pytest.mark.parametrize(
    ("error", "kinds"),
    [(Ignore(), [StageStart, StageComplete]), (Retry(), [StageStart]), (Reject(), [StageStart])],
    ids=["replaced", "retried", "rejected"],
)
def test_a_task_that_goes_elsewhere_has_not_failed(
    writer: AttemptWriter, tmp_path: Path, error: Exception, kinds: list[type[Record]]
) -> None:
    """Celery ends tasks by exceptions that are no errors: how the attempt ends says what became of a stage or a run."""
    with suppress(type(error)), run("a-run"), stage("Fetch"):
        raise error
    begun, *found = told(writer, tmp_path)
    assert isinstance(begun, RunStart)
    assert [type(record) for record in found] == kinds


def test_lines_belong_to_the_innermost_stage(writer: AttemptWriter, tmp_path: Path) -> None:
    """Stages are numbered in order of their start; a line has the number of the one that was last begun and runs."""
    writer.write(STDOUT, "before\n")
    with stage("Outer"):
        writer.write(STDOUT, "outer\n")
        with stage("Inner"):
            writer.log("INFO", "logger", "inner")
        writer.write(STDOUT, "outer again\n")
    writer.write(STDOUT, "after\n")
    found = [record for record in told(writer, tmp_path) if isinstance(record, Line)]
    assert [(line.line, line.stage) for line in found] == [
        ("before", None), ("outer", 1), ("inner", 2), ("outer again", 1), ("after", None),
    ]  # fmt: skip


def test_progress_is_told_ten_times_a_second(
    writer: AttemptWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop may report each item: what is more than a person can follow is left out, but never the last."""
    now = 0.0
    monkeypatch.setattr(counting, "monotonic", lambda: now)
    with stage("Count", pending=1000) as count:
        for _ in range(1000):
            now += 0.001
            count.advance()
    found = [record.done for record in told(writer, tmp_path) if isinstance(record, StageProgress)]
    assert 8 <= len(found) <= 10
    assert found[-1] == 1000


def test_an_exception_ends_a_stage_and_goes_on(writer: AttemptWriter, tmp_path: Path) -> None:
    """The stage has failed, with error and traceback; the task sees its own exception."""
    error = ValueError("no such widget")

    @stage("Build")
    def build() -> None:
        raise error

    with pytest.raises(ValueError) as caught:
        build()
    assert caught.value is error
    *_, failed = told(writer, tmp_path)
    assert isinstance(failed, StageError)
    assert failed.error == "ValueError: no such widget"
    assert "raise error" in failed.traceback


def test_functions_and_coroutines_are_stages(writer: AttemptWriter, tmp_path: Path) -> None:
    """As a decorator it makes a stage of each call, and keeps name, arguments and result."""

    @stage("Add")
    def add(one: int, *, other: int) -> int:
        return one + other

    @stage("Await")
    async def wait(value: str) -> str:
        await asyncio.sleep(0)
        return value

    assert add(1, other=2) == 3
    assert add(3, other=4) == 7
    assert asyncio.run(wait("done")) == "done"
    assert add.__name__ == "add"
    kinds = [(type(record).__name__, getattr(record, "stage", 0)) for record in told(writer, tmp_path)]
    assert kinds == [(name, number) for number in (1, 2, 3) for name in ("StageStart", "StageComplete")]


def test_outside_a_task_only_the_code_runs() -> None:
    """Without a task a stage does nothing of its own, and hides no exception."""
    assert current.get() is None
    with stage("Nowhere") as nowhere:
        nowhere.advance(message="ignored")
        nowhere.trace("event")
        nowhere.result(1)
    with pytest.raises(KeyError), stage("Nowhere"):
        raise KeyError("own")


def test_a_stage_that_outlives_its_task(writer: AttemptWriter, tmp_path: Path) -> None:
    """What a thread says of its stage when its task is over is said to nobody, without an error."""
    with stage("Long") as long:
        found = told(writer, tmp_path)
        long.advance()
        long.trace("late")
    assert [type(record) for record in found] == [StageStart]
    assert [type(record) for record in records(tmp_path)] == [StageStart, End]


class Unspeakable:
    """A value that fails when it is shown."""

    def __repr__(self) -> str:
        raise RuntimeError("not even this")


class Mute(Exception):
    """An exception that fails when it is shown."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")


class Number:
    """A whole number of another library's."""

    def __index__(self) -> int:
        return 5


def circle() -> list[Any]:
    """A list that holds itself."""
    items: list[Any] = []
    items.append(items)
    return items


class Shy(dict[str, int]):
    """A mapping that does not tell its items."""

    def items(self) -> Any:
        raise RuntimeError("not even these")


STRANGE: list[Any] = [
    Shy(a=1),
    {"deep": [Shy(a=1)]},
    10**400,
    float("-inf"),
    float("nan"),
    {"loss": float("inf")},
    {(1, 2): "a tuple as key", None: 1},
    {1: "a number as key"},
    {1, 2},
    b"bytes",
    "caf\udce9 \ud83d",
    {"key \udce9": ["\ud83d"]},
    circle(),
    Unspeakable(),
    [Unspeakable()],
    {Unspeakable(): 1},
    2**200,
    -(2**64),
    object(),
    1.5,
    "x" * 1_500_000,
    ["y" * 1000] * 3000,
    Number(),
]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda value: type(value).__name__)
def test_whatever_is_said_disturbs_nobody(writer: AttemptWriter, tmp_path: Path, strange: Any) -> None:
    """Results, data, names, counts and messages of any kind: the task goes on, and each is one sound record."""
    with stage(strange, pending=strange) as odd:
        odd.progress(strange, strange, strange)
        odd.trace(strange, value=strange, **{"\udce9": 1})
        odd.result(strange)
    writer.write(STDOUT, "afterwards\n")
    found = told(writer, tmp_path)
    assert len(found) == 5
    assert [record.n for record in found] == [1, 2, 3, 4, 5]
    assert [decode(encode(record)) for record in found] == found
    assert lines(found) == [("stdout", "afterwards")]
    assert all(len(encode(record)) < 2_000_000 for record in found)


def test_what_json_does_not_know_is_text_in_its_place(writer: AttemptWriter, tmp_path: Path) -> None:
    """All around it stays data."""
    with stage("Keep") as keep:
        keep.result({"loss": float("nan"), (1, 2): [1, {3}], "shy": Shy(a=1), "ok": {"n": None}, 5: Unspeakable()})
    complete = told(writer, tmp_path)[-1]
    assert isinstance(complete, StageComplete)
    assert complete.result == {
        "loss": "nan", "(1, 2)": [1, "{3}"], "shy": {"a": 1}, "ok": {"n": None}, "5": "<Unspeakable>",
    }  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_what_json_can_hold_is_kept(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    """A result comes out as it was put in."""
    directory = tmp_path_factory.mktemp("journal")
    journal = open_journal(directory)
    writer = begin(journal)
    token = current.set(writer)
    try:
        with stage("Keep") as keep:
            keep.result(value)
    finally:
        current.reset(token)
    found = told(writer, directory)[-1]
    journal.close()
    assert isinstance(found, StageComplete)
    assert found.result == value


def test_a_number_of_another_library_is_a_number(writer: AttemptWriter, tmp_path: Path) -> None:
    """Counts from numpy and the like are counts."""
    with stage("Count") as count:
        count.progress(Number(), Number())  # type: ignore[arg-type]
    (_, progress, complete) = told(writer, tmp_path)
    assert isinstance(progress, StageProgress)
    assert (progress.done, progress.total) == (5, 5)
    assert isinstance(complete, StageComplete)
    assert complete.processed == 5


@pytest.mark.parametrize(
    "error", [Mute(), ValueError("x" * 20_000_000), ValueError("caf\udce9")], ids=["mute", "long", "bytes"]
)
def test_whatever_is_raised_goes_on(writer: AttemptWriter, tmp_path: Path, error: Exception) -> None:
    """An exception that cannot be shown, or is very long, is still the task's own, and ends its stage."""
    with pytest.raises(type(error)) as caught, stage("Fail"):
        raise error
    assert caught.value is error
    failed = told(writer, tmp_path)[-1]
    assert isinstance(failed, StageError)
    assert failed.error.startswith(type(error).__name__)
    assert len(encode(failed)) < 2_000_000
