"""The task comes first: whatever it does, its outcome and the worker's console are the same with livelog as without."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults.kinds import KINDS, ROUGH, WITHOUT_RESULT
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

_ENV = {"PYTHONPATH": str(Path(__file__).parent.parent.parent), "PYTHONFAULTHANDLER": ""}


class Run(NamedTuple):
    """All kinds, run by one worker."""

    outcomes: dict[str, dict[str, Any]]
    #: The lines of the workers' consoles: of the calm one, and of the rough one, which may run a task once more.
    console: Counter[str]
    rough_console: set[str]


class _Side:
    """Two workers that run all kinds, with livelog or without: one for those that cost it its process for tasks."""

    def __init__(
        self, directory: Path, valkey: Valkey, livelog: bool, settings: dict[str, Any], ends: ExitStack
    ) -> None:
        self.name = "on" if livelog else "off"
        self._project = Project(directory / self.name, valkey.url)
        ends.callback(self._project.close)
        calm, rough = f"calm-{self.name}", f"rough-{self.name}"
        self._project.configure(include=["tests.faults.kinds"], task_default_queue=calm, livelog=livelog, **settings)
        self._project.configure(worker_proc_alive_timeout=60)  # s; a busy machine forks slowly
        args = {calm: ["-Q", calm], rough: ["-Q", rough, "--concurrency", "8", "--max-tasks-per-child", "1"]}
        # Unbuffered: what a process that is killed while it leaves has printed is shown or not by chance else.
        env = {calm: _ENV, rough: {**_ENV, "PYTHONUNBUFFERED": "1"}}
        self._workers = [
            Worker(self._project, concurrency=1, args=args[name], env=env[name], name=name, ready=None) for name in args
        ]
        for worker in self._workers:
            ends.callback(worker.end)
            worker.start()
        self._client = valkey.client
        self._sent: dict[str, str] = {}
        # Descriptors first: those that others leave to the collector of garbage are closed at any time.
        for name, options in sorted(KINDS.items(), key=lambda kind: kind[0] != "descriptors"):
            task, queue = f"kinds.{name}", rough if name in ROUGH else calm
            self._sent[name] = str(self._project.app.send_task(task, queue=queue, **options).id)

    def finish(self) -> Run:
        for name in KINDS.keys() - WITHOUT_RESULT:
            wait_for(lambda name=name: self._outcome(name)["status"] not in ("PROGRESS", "RETRY", None), 60, name)
        for worker in self._workers:
            worker.stop()
        calm, rough = map(self._console, self._workers)
        return Run({name: self._outcome(name) for name in self._sent}, Counter(calm), set(rough))

    def _outcome(self, name: str) -> dict[str, Any]:
        stored = self._client.get(f"celery-task-meta-{self._sent[name]}")
        meta = json.loads(self._plain(stored)) if stored else {"status": None}
        return {key: meta.get(key) for key in ("status", "result", "traceback", "retries", "children")}

    def _console(self, worker: Worker) -> list[str]:
        shown = self._plain(worker.output().partition(" ready.")[2]).splitlines()
        return [line.partition("succeeded in")[0] for line in shown if "livelog" not in line]

    def _plain(self, text: str) -> str:
        """What is seen, without what differs from run to run."""
        for name, task_id in self._sent.items():
            text = text.replace(task_id, f"<{name}>")
        for pattern, instead in _VARYING.items():
            text = re.sub(pattern, instead, text)
        return text.replace(f"-{self.name}", "-<side>").replace(f"/{self.name}", "/<side>")


#: What differs from run to run, and what only Python 3.10 cannot leave out of a traceback.
_VARYING = {
    r'  File \\"[^"]*celery_livelog/threads.py\\", line \d+, in carried\\n.*?\\n': "",
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "<id>",
    r"0x[0-9a-f]{6,}": "<address>",
    r"signal 15 \(SIGTERM\)|exitcode 15": "<terminated>",  # a race of Celery's own
    r"a question\? ": "",  # stands before whatever comes next
    # A forked child prints as any other subprocess does: plainly, not as a record of Celery's.
    r"\[[^\]]*WARNING/[^\]]*\] (?=printed by a child|by multiprocessing)": "",
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: ": "[<time>: ",
    r"ForkPoolWorker-\d+": "<process>",
    r"\d+\.\d+(e-\d+)?s\b": "<seconds>",
    r"pid[:=]\d+|ID \d+|Job: \d+": "<pid>",
    r"(Process|process) '?\"?[^ ]*\d+[^ ]*": "<process>",
}


@pytest.fixture(scope="module", params=[True, False], ids=["redirected", "not-redirected"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """All kinds without livelog and with it; with Celery's stand-in for stdout, as by default, and without."""
    directory = tmp_path_factory.mktemp("same")
    settings = {"worker_redirect_stdouts": request.param}
    with ExitStack() as ends:
        valkey = Valkey(directory)
        ends.callback(valkey.end)
        valkey.start()
        sides = [_Side(directory, valkey, livelog, settings, ends) for livelog in (False, True)]
        off, on = (side.finish() for side in sides)
    return off, on


def _differences(off: Any, on: Any, place: str = "") -> dict[str, tuple[Any, Any]]:
    """What differs, by its place; but Celery's stand-in for stdout lacks things that ours has."""
    if isinstance(off, dict) and isinstance(on, dict) and off.keys() == on.keys():
        parts = [(f"{place}.{key}", off[key], on[key]) for key in off]
    elif isinstance(off, list) and isinstance(on, list) and len(off) == len(on):
        parts = [(f"{place}[{number}]", *both) for number, both in enumerate(zip(off, on, strict=True))]
    elif off == on or "'LoggingProxy' object " in str(off):
        parts = []
    else:
        return {place: (off, on)}
    return {place: both for part in parts for place, both in _differences(part[1], part[2], part[0]).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_outcome(runs: tuple[Run, Run], kind: str) -> None:
    """Result, exception, traceback, state, and what the task itself has seen."""
    off, on = runs
    assert _differences(off.outcomes[kind], on.outcomes[kind]) == {}
    assert "celery_livelog" not in json.dumps(on.outcomes[kind])


def test_console(runs: tuple[Run, Run]) -> None:
    """Each line that the worker's console shows, as often as without."""
    off, on = runs
    assert (off.console - on.console, on.console - off.console) == (Counter(), Counter())
    # A process that is being replaced dies of a SIGTERM or before that, by a race of billiard's own.
    dying = re.compile(r"SystemExit: -\d+|  File .*/billiard/|    (time\.sleep|sys\.exit)\(")
    assert [line for line in off.rough_console ^ on.rough_console if not dying.match(line)] == []
