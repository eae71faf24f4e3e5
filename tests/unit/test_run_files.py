"""The sink of run directories: what attempts of named runs say is in the files once, and nobody waits for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from celery_livelog.attempts import Attempt
from celery_livelog.records import (
    End,
    Gap,
    Line,
    Record,
    RunEnd,
    RunStart,
    StageComplete,
    StageError,
    StageProgress,
    StageStart,
    Trace,
)
from celery_livelog.run_layouts import RunLayout
from celery_livelog.runs import Run
from celery_livelog.shipper import run_files, run_pieces
from celery_livelog.shipper.run_files import RunFiles
from celery_livelog.stores import rundir
from tests.nodes.waiting import wait_for

AT = "2024-06-20T16:30:55.123456+00:00"
LOCAL = "2024-06-20 18:30:55.123+02:00"
RUN = Run(run_id="run_20240620_163055_3f2a90", name="nightly", account="a1", fields={"user_id": "7"}, started=AT)
WHO = {"task_id": "0123456789", "attempt": "00aa11bb"}
Open = Callable[..., RunFiles]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Below which the directories are."""
    return tmp_path / "runs"


@pytest.fixture
def written() -> list[str]:
    """The attempts that are said to be written."""
    return []


@pytest.fixture
def start(tmp_path: Path, root: Path, written: list[str]) -> Iterator[Open]:
    """Start the sink; what is not closed by the test is in the end."""
    opened: list[RunFiles] = []

    def begin(templates: Sequence[str] = (f"{root}/{{run_id}}",), budget: int = 1 << 20) -> RunFiles:
        layouts = [RunLayout.parse(template) for template in templates]
        opened.append(RunFiles("run directories", layouts, "Europe/Berlin", tmp_path, budget, written.append))
        return opened[-1]

    yield begin
    for files in opened:
        files.close(10)


def attempt(name: str = WHO["attempt"], retries: int = 0) -> Attempt:
    task_id = WHO["task_id"]
    return Attempt(attempt=name, task_id=task_id, name="proj.sync", worker="w@host", started=AT, retries=retries)


def lines(first: int, last: int) -> list[Record]:
    return [line(n) for n in range(first, last + 1)]


def line(n: int, stage: int | None = None) -> Line:
    return Line(n=n, timestamp=AT, stream="stdout", line=f"line {n}", stage=stage)


def settle(files: RunFiles) -> None:
    files.tick()
    wait_for(lambda: files.idle)


def text(root: Path, name: str = "run.log", run: Run = RUN) -> list[str]:
    """The lines of a file, without the time and who says them."""
    path = root / run.run_id / name
    shown = path.read_text().splitlines() if path.exists() else []
    assert all(one.startswith((LOCAL, "#")) or not one for one in shown)
    return [one.removeprefix(f"{LOCAL} sync[01234567] ") for one in shown]


def said(root: Path, run: Run = RUN) -> list[str]:
    """What the run's log has below its head, but how attempts begin."""
    return [one for one in text(root, run=run) if one and one[0] != "#" and not one.startswith("[begins")]


def objects(root: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(one) for one in (root / RUN.run_id / name).read_text().splitlines()]


STORY: list[Record] = [
    line(1),
    StageStart(n=2, timestamp=AT, stage=1, name="Fetch", pending=3),
    line(3, stage=1),
    StageProgress(n=4, timestamp=AT, stage=1, name="Fetch", done=1, total=3, message="page one"),
    Trace(n=5, timestamp=AT, event="item_done", data={"id": 1}, stage=1),
    StageComplete(n=6, timestamp=AT, stage=1, name="Fetch", elapsed=1.5, processed=3, result={"credits_used": 7}),
    StageStart(n=7, timestamp=AT, stage=2, name="Push"),
    StageError(n=8, timestamp=AT, stage=2, name="Push", elapsed=0.5, error="E: no", traceback="Traceback\n  E: no\n"),
    Gap(n=10, timestamp=AT, skipped=2, first=9, last=10, reason="overload"),
    StageStart(n=11, timestamp=AT, stage=3, name="Clean"),
    End(n=12, timestamp=AT, state="FAILURE", exit_code=137, reason="killed by signal 9 (SIGKILL)"),
]


def test_what_the_files_say(start: Open, root: Path) -> None:
    """Each file of one run, from its head to the end of its task, in the configured time zone."""
    files = start()
    files.put(attempt(retries=1), RUN, STORY)
    settle(files)
    head = ["# Run:     run_20240620_163055_3f2a90", "# Name:    nightly", "# Account: a1", "# Site:", "# user_id: 7",
            f"# Started: {LOCAL}", "# Worker:  w@host", ""]  # fmt: skip
    fetch = [
        "Stage 1: Fetch (3 pending)",
        "line 3",
        "Stage 1: Fetch: 1/3 page one",
        'item_done {"id":1}',
        'Stage 1: Fetch: complete, 3 processed in 1.50 s: {"credits_used":7}',
    ]
    push = ["Stage 2: Push", "Stage 2: Push: failed after 0.50 s: E: no"]
    clean = ["Stage 3: Clean", "Stage 3: Clean: interrupted: killed by signal 9 (SIGKILL)"]
    begins, end = "[begins: task 0123456789 on w@host, retry 1]", "[FAILURE: killed by signal 9 (SIGKILL)]"
    assert text(root) == [*head, begins, "line 1", *fetch, *push, "[2 messages skipped]", *clean, end]
    assert text(root, "stage_1.log") == fetch
    assert text(root, "stage_2.log") == [*push, "Traceback", "  E: no"]
    assert text(root, "stage_3.log") == clean

    progress = objects(root, "stages/progress.jsonl")
    assert {entry["timestamp"] for entry in progress} == {"2024-06-20T18:30:55.123456+02:00"}
    assert [(entry["stage"], entry["status"], entry["message"]) for entry in progress] == [
        ("Fetch", "running", "started (3 pending)"),
        ("Fetch", "running", "1/3 page one"),
        ("Fetch", "complete", "complete, 3 processed in 1.50 s"),
        ("Push", "running", "started"),
        ("Push", "error", "failed after 0.50 s: E: no"),
        ("Clean", "running", "started"),
        ("Clean", "interrupted", "interrupted: killed by signal 9 (SIGKILL)"),
    ]

    trace = objects(root, "run_trace.jsonl")
    assert all(WHO.items() <= entry.items() and entry["run_id"] == RUN.run_id for entry in trace)
    assert [entry["type"] for entry in trace] == [
        "run_start", "stage_start", "stage_progress", "trace", "stage_complete", "stage_start", "stage_error",
        "stage_start", "stage_error", "log_line_end",
    ]  # fmt: skip
    assert (trace[1]["pending"], trace[3]["event"], trace[3]["data"]) == (3, "item_done", {"id": 1})
    assert (trace[4]["processed"], trace[4]["elapsed"], trace[4]["result"]) == (3, 1.5, {"credits_used": 7})


def test_a_replay_writes_nothing_twice(start: Open, root: Path) -> None:
    """From the beginning, or from the middle, as a shipper does after one that was killed; open stages stay so."""
    first = start()
    first.put(attempt(), RUN, STORY[:3])
    settle(first)
    again = start()
    again.put(attempt(), RUN, [])
    again.put(attempt(), RUN, STORY[:2])
    again.put(attempt(), RUN, STORY[2:4])
    settle(again)
    middle = start()
    middle.put(attempt(), RUN, STORY[4:5])
    middle.put(attempt(), RUN, [End(n=6, timestamp=AT, state="LOST", exit_code=137, reason="worker lost")])
    settle(middle)
    assert said(root) == [
        *(record.text for record in STORY[:5]), "Stage 1: Fetch: interrupted: worker lost", "[LOST: worker lost]",
    ]  # fmt: skip
    assert len([one for one in text(root) if one.startswith("[begins")]) == 1
    assert len([entry for entry in objects(root, "run_trace.jsonl") if entry["type"] == "run_start"]) == 1


def test_what_nobody_has_any_more_is_counted(start: Open, root: Path) -> None:
    """A shipper that begins in the middle of an attempt of which files lack something says how much."""
    first = start()
    first.put(attempt(), RUN, lines(1, 2))
    settle(first)
    middle = start()
    middle.put(attempt(), RUN, lines(6, 7))
    settle(middle)
    assert said(root) == ["line 1", "line 2", "[3 messages skipped]", "line 6", "line 7"]


def test_states_go_when_nobody_asks_again(start: Open, root: Path, written: list[str]) -> None:
    """An attempt that is archived is said to be written once it is, and then nothing is noted of it."""
    files = start()
    files.put(attempt(), RUN, STORY)
    files.archived(WHO["attempt"])
    files.archived("never seen here")
    settle(files)
    assert sorted(written) == sorted([WHO["attempt"], "never seen here"])
    own = root / RUN.run_id / ".livelog"
    assert (own / WHO["attempt"]).exists()
    files.forget(WHO["attempt"])
    settle(files)
    assert sorted(path.name for path in own.iterdir()) == ["lock", "run"]


def test_a_directory_that_is_deleted_stays_so(start: Open, root: Path) -> None:
    """It is not made again only to note that nothing is noted."""
    files = start()
    files.put(attempt(), RUN, STORY)
    settle(files)
    shutil.rmtree(root / RUN.run_id)
    files.archived(WHO["attempt"])
    files.forget(WHO["attempt"])
    settle(files)
    assert list(root.iterdir()) == []


def test_a_run_within_a_run(start: Open, root: Path) -> None:
    """Each has what was said in it, and neither misses what was the other's."""
    inner = Run(run_id="run_inner", started=AT)
    files = start()
    files.put(attempt(), RUN, lines(1, 2))
    files.put(attempt(), inner, [RunStart(n=3, timestamp=AT, run_id="run_inner", started=AT)])
    files.put(attempt(), inner, lines(4, 5))
    files.put(attempt(), inner, [RunEnd(n=6, timestamp=AT, run_id="run_inner", state="SUCCESS", elapsed=1.0)])
    files.put(attempt(), RUN, [line(7), End(n=8, timestamp=AT, state="SUCCESS", exit_code=0)])
    settle(files)
    assert said(root) == ["line 1", "line 2", "line 7", "[SUCCESS]"]
    assert said(root, inner) == ["Run run_inner", "line 4", "line 5", "Run run_inner: SUCCESS after 1.00 s"]
    trace = [json.loads(one)["type"] for one in (root / "run_inner/run_trace.jsonl").read_text().splitlines()]
    assert trace == ["run_start", "run_end"]


def test_a_disk_that_is_away(start: Open, root: Path, monkeypatch: pytest.MonkeyPatch, written: list[str]) -> None:
    """What waits for it is written when it is back; who puts never waits and never sees an error."""
    away = True
    locked = rundir.locked

    def failing(*where: Any) -> Any:
        if away:
            raise OSError(116, "Stale file handle")
        return locked(*where)

    monkeypatch.setattr(run_pieces.rundir, "locked", failing)
    files = start()
    files.put(attempt(), RUN, STORY)
    files.archived(WHO["attempt"])
    wait_for(lambda: files._writer._waiting)
    assert (written, files.idle) == ([], False)
    away = False
    settle(files)
    assert written == [WHO["attempt"]]
    assert said(root)[-1] == STORY[-1].text


def test_more_than_may_wait_is_left_out(start: Open, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little memory and little disk is taken however long the directories are away; what is left out is counted."""
    away = True
    locked = rundir.locked

    def failing(*where: Any) -> Any:
        if away:
            raise OSError(116, "Stale file handle")
        return locked(*where)

    monkeypatch.setattr(run_pieces.rundir, "locked", failing)
    monkeypatch.setattr(run_files, "_MEMORY_BYTES", 10_000)
    files = start(budget=50_000)
    for first in range(1, 10_001, 100):
        files.put(attempt(), RUN, lines(first, first + 99))
        files.tick()
    assert files._put_bytes < 100_000
    away = False
    settle(files)
    files.put(attempt(), RUN, [End(n=10_001, timestamp=AT, state="SUCCESS", exit_code=0)])
    settle(files)
    shown = said(root)
    (gap,) = (one for one in shown if "skipped" in one)
    assert len(shown) - 2 + int(gap[1:].split()[0]) == 10_000
    assert shown[0] == "line 1"


def test_one_runs_directory_holds_up_no_other(
    start: Open, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that can't be written, as there is a file in its place, is complained about, and others go on."""
    monkeypatch.setattr("sys.__stderr__", __import__("sys").stderr)
    root.mkdir()
    (root / "run_bad").write_text("")
    files = start()
    files.put(attempt("00"), Run(run_id="run_bad", started=AT), lines(1, 2))
    files.put(attempt("01"), RUN, lines(1, 2))
    files.archived("00")
    settle(files)
    assert said(root) == ["line 1", "line 2"]
    assert "the run directories lack run run_bad: NotADirectoryError" in capsys.readouterr().err


def test_a_run_that_fits_no_template(
    start: Open, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, written: list[str]
) -> None:
    """It is said once what is missing; its journal is not held up."""
    monkeypatch.setattr("sys.__stderr__", __import__("sys").stderr)
    files = start([f"{root}/{{acount}}/{{run_id}}"])
    for number in range(3):
        files.put(attempt(), Run(run_id=f"run_{number}", started=AT), [line(number + 1)])
        files.tick()
    files.archived(WHO["attempt"])
    settle(files)
    assert written == [WHO["attempt"]]
    assert capsys.readouterr().err.count("has {acount}") == 1
    assert not root.exists()


def test_a_fault_of_ours_holds_up_nobody(start: Open, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that cannot be told costs its run's lines, and the others go on."""
    monkeypatch.setattr(run_pieces, "_tell", lambda text, piece, state: 1 / 0)
    files = start()
    files.put(attempt(), RUN, lines(1, 2))
    settle(files)
    monkeypatch.undo()
    files.put(attempt(), RUN, lines(3, 4))
    settle(files)
    assert said(root) == ["[2 messages skipped]", "line 3", "line 4"]
