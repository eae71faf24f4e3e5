"""Runs and stages from real workers: the catalog, the API and the terminal say the same of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from celery_livelog import run
from celery_livelog.runs import RunView
from celery_livelog.stores.database import Database
from celery_livelog.stores.schema import VERSION_TABLE
from tests.integration.web import get, serving
from tests.nodes import logs
from tests.nodes.flower import Flower
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

StartWorker = Callable[..., Worker]


def view(project: Project, run_id: str) -> RunView | None:
    return logs.ask(project, lambda reader: reader.runs.get(run_id))


def over(project: Project, run_id: str, tasks: int = 1) -> RunView:
    """A run, once all its tasks have ended."""

    def ended() -> RunView | None:
        found = view(project, run_id)
        return found if found is not None and found.tasks == tasks and found.state != "RUNNING" else None

    return wait_for(ended, what=f"the end of {run_id}")


def livelog(project: Project, *arguments: str, code: int = 0) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "celery", "-A", "proj", "livelog", *arguments]
    done = subprocess.run(command, cwd=project.directory, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_a_run_of_several_tasks(project: Project, worker: StartWorker) -> None:
    """Begun by the code that sends: one run, its stages with results as JSON, in catalog and terminal alike."""
    worker()
    with run(account="a1", site="s7", name="nightly", user_id=7) as begun:
        failed = project.send("staged", True)
        project.send("staged")
        project.send("print_lines", 2)
    found = over(project, begun.run_id, tasks=3)
    assert (found.state, found.failed, found.name, found.account, found.site) == ("FAILURE", 1, "nightly", "a1", "s7")
    assert found.fields == {"user_id": "7"}
    stages = logs.ask(project, lambda reader: reader.runs.stages(begun.run_id))
    of_failed = [stage for stage in stages if stage.task_id == failed.id]
    assert [(stage.stage, stage.name, stage.state, stage.done) for stage in of_failed] == [
        (1, "Fetch", "complete", 3),
        (2, "Compile", "error", 0),
    ]
    assert of_failed[0].result == {"credits": 1.5, "items": ["ä", None]}
    assert (of_failed[0].pending, of_failed[0].message, of_failed[1].error) == (3, "item 3", "ValueError: no compiler")
    assert sorted(stage.state for stage in stages) == ["complete", "complete", "complete", "error"]

    described = json.loads(livelog(project, "runs", begun.run_id, "--json"))
    assert (described["run"]["state"], len(described["tasks"]), len(described["stages"])) == ("FAILURE", 3, 4)
    table = livelog(project, "runs", begun.run_id)
    assert "ValueError: no compiler" in table
    assert failed.id in table
    assert begun.run_id in livelog(project, "runs", "--account", "a1")
    assert begun.run_id not in livelog(project, "runs", "--account", "a2")
    livelog(project, "runs", begun.run_id, "--account", "a2", code=1)

    printed = livelog(project, "logs", "--run", begun.run_id, "--json", code=1)
    records = [json.loads(line) for line in printed.splitlines()]
    assert [record["timestamp"] for record in records] == sorted(record["timestamp"] for record in records)
    lines = [record["line"] for record in records if record.get("stream") == "stdout"]
    assert sorted(lines) == sorted(2 * ["item 1", "item 2", "item 3", "compiling"] + ["line 1", "line 2"])
    assert livelog(project, "logs", "--run", begun.run_id, "-n", "1", "--json", code=1) == printed.splitlines(True)[-1]


def test_a_run_that_a_task_begins(project: Project, worker: StartWorker) -> None:
    """It is known while it goes on, and its end is what the task has seen."""
    worker()
    run_id = project.run("nightly").get()
    found = over(project, run_id, tasks=2)
    assert (found.state, found.named, found.account) == ("SUCCESS", True, "a1")
    assert [entry.run_id for entry in logs.ask(project, lambda reader: reader.runs.recent())] == [run_id]
    names = {attempt.name for attempt in logs.ask(project, lambda reader: reader.runs.attempts(run_id))}
    assert names == {"proj.nightly", "proj.print_lines"}
    assert [stage.name for stage in logs.ask(project, lambda reader: reader.runs.stages(run_id))] == [
        "Fetch",
        "Compile",
    ]


@pytest.mark.parametrize("shipper_too", [False, True])
def test_a_killed_task_interrupts_its_stage(
    project: Project, worker: StartWorker, valkey: Valkey, shipper_too: bool
) -> None:
    """With how far it had come; also when the shipper is killed in the middle and another one goes on."""
    node = worker(concurrency=1)
    sent = project.send("stay_in_stage", "in-stage")
    pid = int(valkey.client.blpop(["in-stage"], timeout=30)[1])

    def stages() -> list[tuple[str, str, int]]:
        found = logs.ask(project, lambda reader: reader.runs.stages(sent.id))
        return [(stage.name, stage.state, stage.done) for stage in found]

    wait_for(lambda: stages() == [("Fetch", "complete", 0), ("Compile", "running", 4)], what="the stage that runs")
    assert view(project, sent.id).state == "RUNNING"
    if shipper_too:
        shipper_of(node).kill()
    os.kill(pid, signal.SIGKILL)
    assert over(project, sent.id).state == "FAILURE"
    assert stages() == [("Fetch", "complete", 0), ("Compile", "interrupted", 4)]
    (_, stage) = logs.ask(project, lambda reader: reader.runs.stages(sent.id))
    assert stage.error.startswith("killed by signal 9")
    assert stage.ended


def shipper_of(node: Worker) -> psutil.Process:
    """A worker's shipper."""
    (shipper,) = (
        child for child in psutil.Process(node.pid).children() if "celery_livelog.shipper" in " ".join(child.cmdline())
    )
    return shipper


def test_a_catalog_of_another_version(project: Project, worker: StartWorker) -> None:
    """The worker says what to run and goes on, with log and archive; the rows come when the catalog fits again."""
    database = Database(project.settings.database_url)
    database.upgrade()
    note_version(database, "9999")
    node = worker()
    sent = project.run("staged")
    node.wait_for_output("this celery-livelog knows none after 0002: install the release that they are of")
    assert "celery_livelog/stores" not in node.output()
    printed = ["item 1", "item 2", "item 3", "compiling"]
    wait_for(lambda: logs.lines(logs.records(project, sent.id)) == printed, what="the log")
    note_version(database, "0002")
    database.close()
    assert over(project, sent.id).state == "SUCCESS"
    assert len(logs.ask(project, lambda reader: reader.runs.stages(sent.id))) == 2


def note_version(database: Database, version: str) -> None:
    with database._engine.begin() as connection:
        connection.execute(VERSION_TABLE.update().values(version_num=version))


@pytest.fixture(scope="module")
def served(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Flower]]:
    with serving(valkey_server, Path(tmp_path_factory.mktemp("pipelines"))) as both:
        yield both


def test_the_api(served: tuple[Project, Flower]) -> None:
    """Lists runs, tells of one with tasks and stages, and gives the end of its log; 404 for what there is not.

    The last test here: the worker that it shares would take the tasks of others.
    """
    project, flower = served
    with run("nightly/1 ä", account="a1", name="first"):
        project.send("staged")
    with run(account="a2") as second:
        project.send("print_lines", 5)
    first_url = f"{flower.url}/livelog/api/runs/{urllib.parse.quote('nightly/1 ä', safe='')}"
    over(project, "nightly/1 ä")
    over(project, second.run_id)

    listed = get(f"{flower.url}/livelog/api/runs").json["runs"]
    assert [(entry["run_id"], entry["account"]) for entry in listed] == [(second.run_id, "a2"), ("nightly/1 ä", "a1")]
    assert [entry["name"] for entry in get(f"{flower.url}/livelog/api/runs?account=a1").json["runs"]] == ["first"]
    assert len(get(f"{flower.url}/livelog/api/runs?limit=1").json["runs"]) == 1
    before = urllib.parse.quote(listed[0]["started"])
    assert len(get(f"{flower.url}/livelog/api/runs?before={before}").json["runs"]) == 1

    described = get(first_url).json
    assert (described["run"]["state"], described["run"]["tasks"]) == ("SUCCESS", 1)
    assert [(task["name"], task["state"], task["attempts"]) for task in described["tasks"]] == [
        ("proj.staged", "SUCCESS", 1)
    ]
    assert [(stage["name"], stage["state"], stage["result"]) for stage in described["stages"]] == [
        ("Fetch", "complete", {"credits": 1.5, "items": ["ä", None]}),
        ("Compile", "complete", None),
    ]
    printed, complete = get(f"{first_url}/logs?lines=2").text.splitlines()
    assert printed.endswith("compiling")
    assert f" staged[{described['tasks'][0]['task_id'][:8]}] Stage 2: Compile: complete" in complete
    log = f"{flower.url}/livelog/api/runs/{second.run_id}/logs"
    assert [line.split("] ")[1] for line in get(log).text.splitlines()] == [f"line {number}" for number in range(1, 6)]
    assert livelog(project, "logs", "--run", second.run_id) == get(log).text
    assert get(f"{log}?lines=0").text == ""
    for path in ("no-such-run", "no-such-run/logs"):
        answer = get(f"{flower.url}/livelog/api/runs/{path}")
        assert (answer.status, answer.json) == (404, {"error": "not found"})
    for path in ("?limit=few", "?before=yesterday", f"/{second.run_id}/logs?lines=-1"):
        assert get(f"{flower.url}/livelog/api/runs{path}").status == 400
