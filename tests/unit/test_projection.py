"""What the catalog is told of an attempt's runs and stages: the same, however often shippers are killed on the way."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.attempts import Attempt
from celery_livelog.frames import END, EVENT, STDOUT, TEXT, Frame
from celery_livelog.redact import Redactor
from celery_livelog.runs import Run, RunEntry, Stage
from celery_livelog.shipper.attempt import AttemptLog, LogState
from celery_livelog.shipper.redaction import Redactions
from celery_livelog.stores.rows import attempt_rows, run_rows, stage_rows

SECOND = 1_000_000_000
NIGHTLY = Run(run_id="run_1", account="a1", site="s7", name="nightly", fields={"user": "7"}, started="2026-01-01")


def new_log(run: Run | None = None, run_id: str = "the-task") -> AttemptLog:
    attempt = Attempt(attempt="00aa11bb", task_id="the-task", run_id=run_id, started="1970-01-01T00:00:00.000000+00:00")
    if run is not None:
        attempt.run_id, attempt.account, attempt.site = run.run_id, run.account, run.site
    return AttemptLog(attempt, run=run)


def frames(*events: dict[str, Any], end: dict[str, Any] | None = None) -> list[Frame]:
    """The frames of events, a second apart, with a line between each two, and of the attempt's end."""
    found = []
    for second, event in enumerate(events, 1):
        found.append(Frame(EVENT, 0, 1, 0, second * SECOND, 0, 0, json.dumps(event).encode()))
        found.append(Frame(TEXT, STDOUT, 1, 0, second * SECOND, 0, 0, b"a line\n"))
    if end is not None:
        found.append(Frame(END, 0, 1, 0, (len(events) + 1) * SECOND, 0, 0, json.dumps(end).encode()))
    return found


OVER = {"state": "SUCCESS", "exit_code": 0, "reason": ""}
KILLED = {"state": "FAILURE", "exit_code": 137, "reason": "killed by signal 9 (SIGKILL)"}


def start(stage: int, **fields: Any) -> dict[str, Any]:
    return {"type": "stage_start", "stage": stage, "name": f"Stage {stage}", **fields}


def progress(stage: int, done: int) -> dict[str, Any]:
    return {
        "type": "stage_progress",
        "stage": stage,
        "name": f"Stage {stage}",
        "done": done,
        "total": 9,
        "message": "m",
    }


def complete(stage: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": "stage_complete",
        "stage": stage,
        "name": f"Stage {stage}",
        "elapsed": 1.5,
        "processed": 4,
        **fields,
    }


def failed(stage: int) -> dict[str, Any]:
    error = {"error": "ValueError: no", "traceback": "Traceback …"}
    return {"type": "stage_error", "stage": stage, "name": f"Stage {stage}", "elapsed": 0.5, "processed": 2, **error}


def begin(run_id: str, account: str = "a1") -> dict[str, Any]:
    return {"type": "run_start", "run_id": run_id, "account": account, "started": "2026-01-01", "name": run_id}


def finish(run_id: str, state: str = "SUCCESS") -> dict[str, Any]:
    return {"type": "run_end", "run_id": run_id, "state": state, "elapsed": 2.0}


class Shipping:
    """Shippers that ship one attempt, one after another, and all that they have told."""

    def __init__(self, log: AttemptLog) -> None:
        self.log = log
        self.told: list[Attempt | RunEntry | Stage] = []

    def ship(self, shipped: list[Frame]) -> Shipping:
        for frame in shipped:
            self.log.feed(frame)
            self.take()
        return self

    def take(self) -> None:
        self.told += self.log.projection.take_news()

    def look(self) -> None:
        """A second is over."""
        self.told += self.log.projection.progress()

    def killed(self) -> None:
        """Another shipper goes on from the state in which a journal's part begins."""
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(self.log.state()), type=LogState)
        self.log = AttemptLog.resume(state, Redactions(Redactor()))

    @property
    def runs(self) -> list[dict[str, Any]]:
        return run_rows(known for known in self.told if isinstance(known, RunEntry))

    @property
    def stages(self) -> list[dict[str, Any]]:
        return stage_rows(known for known in self.told if isinstance(known, Stage))

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return attempt_rows(known for known in self.told if isinstance(known, Attempt))


def shipped(*events: dict[str, Any], end: dict[str, Any] | None = None, **options: Any) -> Shipping:
    shipping = Shipping(new_log(**options))
    shipping.take()
    return shipping.ship(frames(*events, end=end))


def at(second: int) -> str:
    return f"1970-01-01T00:00:{second:02}.000000+00:00"


def test_a_stage_from_start_to_end() -> None:
    """Its row has all that its events said, results as JSON."""
    shipping = shipped(start(1, pending=9), progress(1, 3), complete(1, result={"credits": [1, None]}))
    (row,) = shipping.stages
    assert (row["state"], row["pending"], row["done"], row["total"], row["message"]) == ("complete", 9, 4, 9, "m")
    assert (row["started"], row["ended"], row["updated"], row["elapsed"]) == (at(1), at(3), at(3), 1.5)
    assert json.loads(row["result"]) == {"credits": [1, None]}
    assert (row["run_id"], row["task_id"], row["attempt"]) == ("the-task", "the-task", "00aa11bb")
    assert [(run["run_id"], run["named"], run["started"]) for run in shipping.runs] == [("the-task", False, at(0))]


def test_a_stage_that_failed() -> None:
    """Its error is its exception; nothing is left open."""
    shipping = shipped(start(1), failed(1), end=OVER)
    (row,) = shipping.stages
    assert (row["state"], row["error"], row["done"], row["ended"]) == ("error", "ValueError: no", 2, at(2))


def test_a_killed_task_interrupts_its_stages() -> None:
    """What is open when an attempt ends was interrupted by that, and says by what."""
    shipping = shipped(start(1), start(2), progress(2, 5), complete(1), end=KILLED)
    first, second = shipping.stages
    assert first["state"] == "complete"
    assert (second["state"], second["ended"], second["done"]) == ("interrupted", at(5), 5)
    assert second["error"] == "killed by signal 9 (SIGKILL)"


def test_progress_waits_until_somebody_looks() -> None:
    """Between two looks only the last counts; a stage that has ended is not told of again, whatever comes late."""
    shipping = shipped(start(1), progress(1, 1), progress(1, 2))
    assert [row["done"] for row in shipping.stages] == [0]
    assert shipping.log.projection.moving
    shipping.look()
    assert [row["done"] for row in shipping.stages] == [2]
    assert not shipping.log.projection.moving
    shipping.ship(frames(complete(1), progress(1, 3)))
    assert not shipping.log.projection.moving
    assert [(row["state"], row["done"]) for row in shipping.stages] == [("complete", 4)]


def test_stages_whose_start_was_skipped() -> None:
    """They show from when on they are heard of."""
    shipping = shipped(progress(2, 10**30), complete(5))
    shipping.look()
    assert [(row["stage"], row["state"], row["done"], row["started"]) for row in shipping.stages] == [
        (2, "running", 2**63 - 1, at(1)),
        (5, "complete", 4, at(2)),
    ]


def test_a_run_that_a_message_brought() -> None:
    """Each of its tasks tells of it; its stages are its own."""
    shipping = shipped(start(1), run=NIGHTLY)
    (run,) = shipping.runs
    assert (run["run_id"], run["account"], run["site"], run["name"]) == ("run_1", "a1", "s7", "nightly")
    assert (run["named"], run["started"], run["ended"], json.loads(run["fields"])) == (
        True,
        "2026-01-01",
        "",
        {"user": "7"},
    )
    assert [(row["run_id"], row["account"], row["site"]) for row in shipping.stages] == [("run_1", "a1", "s7")]


def test_a_run_that_a_task_began() -> None:
    """The task joins it with the stages that are open; its end is in once it is told."""
    shipping = shipped(start(1), start(2), complete(2), begin("run_1"), start(3), finish("run_1", "FAILURE"), end=OVER)
    named = [run for run in shipping.runs if run["named"]]
    assert [(run["run_id"], run["state"], run["ended"], run["started"]) for run in named] == [
        ("run_1", "FAILURE", at(6), "2026-01-01")
    ]
    assert [row["run_id"] for row in shipping.attempts] == ["run_1"]
    assert [(row["stage"], row["run_id"], row["account"]) for row in shipping.stages] == [
        (1, "run_1", "a1"),
        (2, "the-task", ""),
        (3, "run_1", "a1"),
    ]


def test_runs_one_after_another_in_one_task() -> None:
    """Each has its own stages; that which a killed task left open has failed with it, but its own, if others go on."""
    shipping = shipped(begin("r1"), start(1), complete(1), finish("r1"), begin("r2", "a2"), start(2), end=KILLED)
    assert [(run["run_id"], run["account"], run["state"]) for run in shipping.runs] == [
        ("r1", "a1", "SUCCESS"),
        ("r2", "a2", "FAILURE"),
    ]
    assert [(row["run_id"], row["account"]) for row in shipping.stages] == [("r1", "a1"), ("r2", "a2")]
    own = shipped(begin("r1"), end=KILLED)
    assert [run["state"] for run in own.runs] == [""]


@pytest.mark.parametrize(("run_id", "runs"), [("the-task", []), ("the-root", ["the-root"]), ("", [])])
def test_a_canvas_is_a_run_when_it_is_more_than_one_task(run_id: str, runs: list[str]) -> None:
    """A task of another one's run tells of that; one that is its own run makes no row."""
    assert [run["run_id"] for run in shipped(end=OVER, run_id=run_id).runs] == runs


EVENTS = st.lists(
    st.one_of(
        st.builds(start, st.integers(1, 4), pending=st.none() | st.integers(0, 9)),
        st.builds(progress, st.integers(1, 4), st.integers(0, 9)),
        st.builds(complete, st.integers(1, 4), result=st.none() | st.integers()),
        st.builds(failed, st.integers(1, 4)),
        st.builds(begin, st.sampled_from(["r1", "r2"]), st.sampled_from(["a1", "a2"])),
        st.builds(finish, st.sampled_from(["r1", "r2"])),
        st.just({"type": "trace", "event": "e"}),
        st.just({"type": "nonsense"}),
    ),
    max_size=12,
)


@given(EVENTS, st.sampled_from([OVER, KILLED]), st.data())
def test_the_same_rows_however_often_shippers_are_killed(
    events: list[dict[str, Any]], ending: dict[str, Any], data: st.DataObject
) -> None:
    """Some go on where another stood, some begin anew; the rows of all together are those of one that lived."""
    all_frames = frames(*events, end=ending)
    whole = shipped(*events, end=ending)
    broken = Shipping(new_log())
    broken.take()
    at_frame = 0
    for _ in range(data.draw(st.integers(0, 4), "kills")):
        upto = data.draw(st.integers(at_frame, len(all_frames)), "up to")
        broken.ship(all_frames[at_frame:upto])
        if data.draw(st.booleans(), "look"):
            broken.look()
        if data.draw(st.booleans(), "anew"):
            again = Shipping(new_log())
            again.take()
            again.ship(all_frames[:upto])
            broken.told += again.told
            broken.log = again.log
        else:
            broken.killed()
            broken.take()
        at_frame = upto
    broken.ship(all_frames[at_frame:])
    assert (broken.stages, broken.runs) == (whole.stages, whole.runs)
