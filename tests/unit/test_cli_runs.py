"""``livelog runs``, ``logs --run`` and ``db`` over a catalog in a file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from celery_livelog.attempts import Attempt
from celery_livelog.cli import livelog
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.stores.catalog import Catalog

EARLIER = Path(__file__).parent / "catalogs" / "1_tasks_and_attempts.sql"
AT = "2026-01-02T03:04:05.000006+00:00"
LATER = "2026-01-02T03:04:17.500006+00:00"
Run = Callable[..., Result]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def command(file: Path, tmp_path: Path) -> Run:
    """Run a command of ``livelog``; it must not leave a traceback."""
    conf = {"livelog_database_url": f"sqlite:///{file}", "livelog_dir": str(tmp_path)}

    def run(*arguments: str) -> Result:
        context = SimpleNamespace(app=SimpleNamespace(conf=conf), no_color=False)
        return CliRunner().invoke(livelog, arguments, obj=context, catch_exceptions=False)

    return run


@pytest.fixture
def nightly(file: Path) -> None:
    """A run that has failed, with two tasks, one of them tried twice, and another account's run after it."""
    catalog = Catalog(f"sqlite:///{file}")
    run = RunEntry(run_id="run_1", account="a1", site="s7", name="night\x1b[2Jly", started=AT, named=True)
    run.state, run.ended, run.error = "FAILURE", LATER, "ValueError: no"
    attempts = [
        Attempt(attempt=f"{n:016x}", task_id=task, name="proj.build", run_id="run_1", account="a1", site="s7", lines=n)
        for n, task in ((1, "one"), (2, "one"), (3, "two"))
    ]
    for attempt in attempts:
        attempt.started, attempt.ended, attempt.state = AT, LATER, "FAILURE"
    stage = Stage(attempt=attempts[2].attempt, stage=1, task_id="two", run_id="run_1", account="a1", site="s7")
    stage.name, stage.started, stage.ended, stage.state, stage.error = "Build", AT, LATER, "error", "ValueError: no"
    stage.done, stage.total, stage.result = 3, 9, {"credits": 1}
    catalog.write(attempts, [run, RunEntry(run_id="run_2", account="a2", started=LATER, named=True)], [stage])
    catalog.close()


@pytest.mark.usefixtures("nightly")
def test_a_list(command: Run) -> None:
    """Newest first, aligned; what somebody has put into a name does nothing to a terminal."""
    heading, second, first = command("runs").stdout.splitlines()
    assert heading.split() == [
        *("RUN", "NAME", "STATE", "TASKS", "RUNNING", "FAILED", "STARTED", "DURATION", "ACCOUNT", "SITE"),
    ]
    assert first.split()[:6] == ["run_1", "nightly", "FAILURE", "2", "0", "2"]
    assert first.split()[7:] == ["12.5s", "a1", "s7"]
    assert second.startswith("run_2")


@pytest.mark.usefixtures("nightly")
def test_a_list_as_json(command: Run) -> None:
    """One object a run; conditions and the limit hold."""

    def ids(*arguments: str) -> list[str]:
        return [json.loads(line)["run_id"] for line in command("runs", "--json", *arguments).stdout.splitlines()]

    assert ids() == ["run_2", "run_1"]
    assert ids("--limit", "1") == ["run_2"]
    assert ids("--account", "a1") == ids("--site", "s7") == ["run_1"]
    assert ids("--account", "a1", "--site", "s8") == []


@pytest.mark.usefixtures("nightly")
def test_one_run(command: Run) -> None:
    """How it stands, why it failed, its tasks with their attempts, its stages."""
    run, tasks, stages = command("runs", "run_1").stdout.split("\n\n")
    assert run.splitlines()[-1] == "ValueError: no"
    assert [line.split()[:4] for line in tasks.splitlines()[1:]] == [
        ["one", "proj.build", "FAILURE", "2"],
        ["two", "proj.build", "FAILURE", "1"],
    ]
    assert stages.splitlines()[1].split()[:5] == ["1", "Build", "error", "3", "9"]
    described = json.loads(command("runs", "run_1", "--json").stdout)
    assert (described["run"]["state"], described["run"]["failed"]) == ("FAILURE", 2)
    assert [(task["task_id"], task["attempts"]) for task in described["tasks"]] == [("one", 2), ("two", 1)]
    assert described["stages"][0]["result"] == {"credits": 1}


@pytest.mark.usefixtures("nightly")
@pytest.mark.parametrize(
    "arguments", [("runs", "run_3"), ("runs", "run_1", "--account", "a2"), ("logs", "--run", "run_3")]
)
def test_no_such_run(command: Run, arguments: tuple[str, ...]) -> None:
    """Another account's is as if there were none."""
    result = command(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    named = "run_1" if "run_1" in arguments else "run_3"
    assert result.stderr == f"Error: nothing is known of a run {named}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected either the ID of a task or --run RUN"),
        (("a-task", "--run", "run_1"), "expected either the ID of a task or --run RUN"),
        (("--run", "run_1", "-f", "-n", "5"), "--follow shows all of a run"),
        (("--run", "run_1", "--level", "INFO"), "--run goes with --follow, --tail, --json and --raw only"),
    ],
)
def test_wrong_arguments_of_logs(command: Run, arguments: tuple[str, ...], message: str) -> None:
    result = command("logs", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_catalog_is_made(command: Run) -> None:
    """Where there is none: that is said, and can be done beforehand."""
    absent = command("db", "current")
    assert (absent.exit_code, absent.stdout) == (1, "none\n")
    assert "needs 0002: run `celery -A PROJECT livelog db upgrade`" in absent.stderr
    made = command("db", "upgrade")
    assert (made.exit_code, made.stderr) == (0, "the catalog was of version none and is of version 0002 now\n")
    assert command("db", "upgrade").stderr == "the catalog is of version 0002 already\n"
    current = command("db", "current")
    assert (current.exit_code, current.stdout, current.stderr) == (0, "0002\n", "")


def test_an_older_catalog(command: Run, file: Path) -> None:
    """What it was is said, and nothing in it is lost."""
    connection = sqlite3.connect(file)
    connection.executescript(EARLIER.read_text())
    connection.close()
    assert command("db", "current").stdout == "0001\n"
    assert command("db", "upgrade").stderr == "the catalog was of version 0001 and is of version 0002 now\n"
    assert "a-task" in command("ls").stdout


def test_a_newer_catalog(command: Run, file: Path) -> None:
    """One line says what to do."""
    command("db", "upgrade")
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("UPDATE livelog_alembic_version SET version_num = '9999'")
    connection.close()
    for arguments in (("db", "upgrade"), ("runs",), ("runs", "run_1"), ("logs", "--run", "run_1")):
        result = command(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1
        assert "are of version 9999" in result.stderr
        assert "install the release that they are of" in result.stderr
