"""The example's two pipelines in both layouts: their files say what `livelog logs` says, also when killed half way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult

from celery_livelog.reader import Reader
from celery_livelog.records import decode
from celery_livelog.runs import RunView
from celery_livelog.web import progress_file
from tests.nodes import logs
from tests.nodes.process import LocalProcess
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

CHECKOUT = Path(__file__).parents[2]
PIPELINES = {"compiling.compile_project": 4, "automation.automate_site": 3}
FIELDS = {"user_id": "7", "project_id": "42", "account": "a1", "site": "s7"}
LAYOUTS = {
    "compile": (r"7/projects/project_42/runs/run_\d{8}_\d{6}", "run.log"),
    "automation": (r"a1/s7/run_\d{8}_\d{6}_[0-9a-f]+", "automation_run.log"),
}
CELERY = [sys.executable, "-m", "celery", "-A", "example_project"]


class Example(Project):
    """The example project; its files are in the directory in which its commands run."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        super().__init__(directory, redis_url)
        self.configure(livelog_timezone="Asia/Kolkata")
        self.app.main = "example_project"
        self.env = {
            **os.environ, "PYTHONPATH": str(CHECKOUT), "REDIS_URL": redis_url, "LIVELOG_DIR": f"{directory}/livelog",
        }  # fmt: skip

    def lead(self, layout: str) -> None:
        """Have all runs in one layout, and a mirror of it."""
        (self.directory / "layout.py").write_text(
            "from example_project import app\n"
            f"app.conf.livelog_run_dir = '{layout}:{self.directory}/runs'\n"
            f"app.conf.livelog_shared_run_dir = '{layout}:{self.directory}/shared'\n"
            "app.conf.livelog_timezone = 'Asia/Kolkata'\n"
        )

    def start_pipeline(self, task: str, pace: float) -> AsyncResult:
        return self.app.send_task(f"example_project.{task}", kwargs={**FIELDS, "pace": pace})

    def shown(self, task_id: str) -> tuple[int, list[str]]:
        """The exit code of `livelog logs`, and the records that it shows, as text."""
        command = [*CELERY, "livelog", "logs", task_id, "--json"]
        done = subprocess.run(command, cwd=self.directory, env=self.env, stdout=subprocess.PIPE, check=False)
        return done.returncode, [decode(line).text for line in done.stdout.splitlines()]


@pytest.fixture
def example(valkey: Valkey, tmp_path: Path) -> Iterator[Example]:
    """The example project with all its files in `tmp_path`."""
    example = Example(tmp_path / "example", valkey.url)
    yield example
    example.close()


def folder(example: Example, layout: str, root: str = "runs") -> Path | None:
    """The directory of the one run in a layout, once there is one."""
    pattern, log = LAYOUTS[layout]
    for path in (example.directory / root).rglob(log):
        assert re.fullmatch(pattern, str(path.parent.relative_to(example.directory / root)))
        return path.parent
    return None


def lines(path: Path) -> list[str]:
    """The lines of a log, without what stands before each and but its head."""
    found = re.findall(r"^(\S+ \S+) \w+\[\w{8}\] (.*)$", path.read_text(), re.MULTILINE)
    assert all(time.endswith("+05:30") for time, _ in found)
    return [text for _, text in found if not text.startswith("[begins")]


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def settled(example: Example, layout: str, task_id: str) -> Path:
    """The run's directory when the attempt's end is in it."""
    ended = re.compile(r"\[(SUCCESS|FAILURE)[^\n]*\]\n\Z")

    def has_ended(root: str) -> Path | None:
        found = folder(example, layout, root)
        return found if found is not None and ended.search((found / LAYOUTS[layout][1]).read_text()) else None

    wait_for(lambda: has_ended("shared"), what="the mirror")
    found = wait_for(lambda: has_ended("runs"), what="the run's files")
    logs.archived(example, task_id)
    return found


def agrees(log: list[str], shown: list[str]) -> bool:
    """Whether a run's log says the same as `livelog logs`, to which it adds the results of stages."""
    return len(log) == len(shown) and all(
        ours == theirs or ours.startswith(f"{theirs}: {{") for ours, theirs in zip(log, shown, strict=True)
    )


def agrees_with_servers(example: Example, here: Path) -> None:
    """What servers say of the run, out of catalog and logs, is what its files say."""
    trace = objects(here / "run_trace.jsonl")
    run_id, state = trace[0]["run_id"], trace[-1]["state"]
    found = wait_for(
        lambda: logs.ask(example, lambda reader: ended(reader, run_id)), what="the run's end in the catalog"
    )
    assert (found.state, found.account, found.site, found.tasks) == (state, "a1", "s7", 1)
    assert found.fields == {"user_id": "7", "project_id": "42"}
    last = {entry["number"]: entry for entry in objects(here / "stages/progress.jsonl")}
    stages = logs.ask(example, lambda reader: reader.runs.stages(run_id))
    assert [(stage.stage, stage.name, stage.state, stage.result) for stage in stages] == [
        (number, entry["stage"], entry["status"], entry.get("result")) for number, entry in last.items()
    ]
    answer = logs.ask(example, lambda reader: progress_file.answer(reader, example.settings, run_id))
    assert answer.body == (here / "stages/progress.jsonl").read_bytes()


async def ended(reader: Reader, run_id: str) -> RunView | None:
    found = await reader.runs.get(run_id)
    return found if found is not None and found.state != "RUNNING" else None


@pytest.fixture
def worker(example: Example, launch: Callable[[LocalProcess], LocalProcess]) -> Callable[[str], LocalProcess]:
    """Start a worker of the example project with all runs in one layout."""

    def start(layout: str) -> LocalProcess:
        example.lead(layout)
        return launch(Worker(example, concurrency=1, args=["--include", "layout"], env=example.env))

    return start


@pytest.mark.parametrize(("task", "layout"), [*product(PIPELINES, LAYOUTS)])
def test_a_pipeline(example: Example, worker: Callable[[str], LocalProcess], task: str, layout: str) -> None:
    """Log, stages, trace and progress agree with what was printed; the mirror has the same."""
    worker(layout)
    task_id = example.start_pipeline(task, 0).id
    here = settled(example, layout, task_id)
    stages = range(1, PIPELINES[task] + 1)
    code, shown = example.shown(task_id)
    log = lines(here / LAYOUTS[layout][1])
    assert (code, log[-1]) == (0, "[SUCCESS]")
    assert agrees(log, shown)

    agrees_with_servers(example, here)

    files = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file() and ".livelog" not in path.parts}
    expected = {LAYOUTS[layout][1], "run_trace.jsonl", "stages/progress.jsonl", *(f"stage_{n}.log" for n in stages)}
    assert files == expected
    mirror = folder(example, layout, "shared")
    assert mirror is not None
    assert all((mirror / name).read_bytes() == (here / name).read_bytes() for name in files)

    trace = objects(here / "run_trace.jsonl")
    assert [entry["type"] for entry in trace if "stage" not in entry] == ["run_start", "run_end", "log_line_end"]
    complete = [entry for entry in trace if entry["type"] == "stage_complete"]
    assert [entry["stage"] for entry in complete] == list(stages)
    progress = objects(here / "stages/progress.jsonl")
    assert all(entry["timestamp"].endswith("+05:30") and entry["message"] for entry in progress)
    for stage in complete:
        name = stage["name"]
        started = next(entry for entry in trace if entry["type"] == "stage_start" and entry["name"] == name)
        assert started.get("pending", stage.get("processed", 0)) == stage.get("processed", 0)
        assert [entry["status"] for entry in progress if entry["stage"] == name][-1] == "complete"
        own = lines(here / f"stage_{stage['stage']}.log")
        assert own[0].startswith(f"Stage {stage['stage']}: {name}")
        assert set(own) <= set(log)
    if task == "automation.automate_site":
        items = [entry for entry in trace if entry["type"] == "trace"]
        assert len(items) == sum(entry["processed"] for entry in complete)
        spent = sum(entry["result"]["credits_used"] for entry in complete)
        assert example.app.AsyncResult(task_id).get(timeout=30) == spent
        assert f'"credits_used":{complete[0]["result"]["credits_used"]}' in lines(here / "stage_1.log")[-1]


@pytest.mark.parametrize(
    ("task", "layout"), [("compiling.compile_project", "compile"), ("automation.automate_site", "automation")]
)
def test_a_pipeline_that_is_killed(
    example: Example, worker: Callable[[str], LocalProcess], task: str, layout: str
) -> None:
    """Its files have all until then, the open stage as interrupted, and how it ended, as `livelog logs` has it."""
    worker(layout)
    task_id = example.start_pipeline(task, 0.2).id

    def half_way() -> bool:
        here = folder(example, layout)
        progress = here / "stages/progress.jsonl" if here else None
        return progress is not None and progress.exists() and '"done":5' in progress.read_text()

    wait_for(half_way, what="some progress")
    (attempt,) = logs.attempts(example, task_id)
    os.kill(attempt.pid, signal.SIGKILL)
    here = settled(example, layout, task_id)
    code, shown = example.shown(task_id)
    log = lines(here / LAYOUTS[layout][1])
    assert code == 137
    assert log[-1].startswith("[FAILURE: killed by signal 9 (SIGKILL)")
    interrupted = log.pop(-2)
    assert "interrupted: killed by signal 9" in interrupted
    assert agrees(log, shown)

    agrees_with_servers(example, here)

    last = objects(here / "stages/progress.jsonl")[-1]
    assert last["status"] == "interrupted"
    assert lines(here / f"stage_{last['number']}.log")[-1] == interrupted
    assert not (here / f"stage_{last['number'] + 1}.log").exists()
    *_, stage, end = objects(here / "run_trace.jsonl")
    assert (stage["type"], stage["stage"]) == ("stage_error", last["number"])
    assert (end["type"], end["state"], end["exit_code"]) == ("log_line_end", "FAILURE", 137)


def test_the_trees_of_both_pipelines(example: Example, launch: Callable[[LocalProcess], LocalProcess]) -> None:
    """As the example is configured, each pipeline's runs are in a tree of their own; variables move the roots."""
    moved = {"PIPELINE_OUTPUT_ROOT": f"{example.directory}/media", "AUTOMATION_LOG_DIR": f"{example.directory}/logs"}
    launch(Worker(example, concurrency=2, env={**example.env, **moved}))
    example.app.send_task("example_project.compiling.compile_project", (7, 42), {"pace": 0})
    example.app.send_task("example_project.automation.automate_site", ("a1", "s7"), {"pace": 0})
    for layout, root in (("compile", "media"), ("automation", "logs")):
        wait_for(lambda layout=layout, root=root: folder(example, layout, root), what=f"a run in {root}")
