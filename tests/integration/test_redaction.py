"""Secrets with real workers: no store holds any of them, no command shows them, and no message of livelog's own."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from tests.nodes import logs
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

StartWorker = Callable[..., Worker]

PASSWORD = "p@ss/of the:url"
TOKEN, DSN, PATTERN, AT_START, IN_TASK = (
    "env-t0ken-1",
    "dsn-passw0rd",
    "tok_4711abc",
    "masked-at-start",
    'ma"sk\\ed-ïn-task',
)
SECRETS = [PASSWORD, TOKEN, DSN, PATTERN, AT_START, IN_TASK]
HIDDEN = "*** and *** and *** and *** and *** and *** and pin=***"
#: How the worker comes to know them; the one that the task masks is last.
ENVIRONMENT = {
    "TEST_SECRETS": "|".join(SECRETS),
    "SERVICE_TOKEN": TOKEN,
    "REPORTS_DSN": f"postgresql://reader:{DSN}@db/reports",
    "TEST_MASKED_AT_START": AT_START,
}


@pytest.fixture
def locked(valkey: Valkey) -> Iterator[str]:
    """The URL of a user of the Valkey with a password."""
    valkey.client.acl_setuser("livelog", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+@all"], keys=["*"])
    yield valkey.url.replace("//", f"//livelog:{quote(PASSWORD, safe='')}@")
    valkey.client.acl_deluser("livelog")


def celery(project: Project, *arguments: str) -> str:
    """All that a celery command of the project says."""
    command = [sys.executable, "-m", "celery", "-A", "proj", *arguments]
    done = subprocess.run(command, cwd=project.directory, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def in_redis(valkey: Valkey) -> str:
    """Everything that the Valkey holds."""
    client = valkey.client
    readers = {"stream": client.xrange, "hash": client.hgetall, "set": client.smembers, "string": client.get}
    ranges = {"list": client.lrange, "zset": client.zrange}
    found = []
    for key in client.scan_iter():
        kind = client.type(key)
        found.append((key, readers[kind](key) if kind in readers else ranges[kind](key, 0, -1)))
    return repr(found)


def in_files(project: Project) -> str:
    """Everything below ``livelog_dir`` but journals: archive, unpacked, and catalog."""
    found = ""
    for path in Path(project.settings.dir).rglob("*"):
        if path.is_file() and "spool" not in path.parts:
            data = path.read_bytes()
            found += zstd.decompress(data).decode() if path.suffix == ".zst" else data.decode("utf-8", "replace")
    return found


def shown(text: str, secrets: list[str]) -> list[str]:
    """Which of the secrets a text shows, as they are or in another form."""
    forms = {
        secret: (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe="")) for secret in secrets
    }
    digits = {secret: base64.b64encode(secret.encode()).decode()[:-4] for secret in secrets}
    return [secret for secret in secrets if any(form in text for form in (*forms[secret], digits[secret]))]


@pytest.mark.parametrize("fails", [False, True])
def test_no_store_holds_a_secret(
    project: Project, valkey: Valkey, locked: str, worker: StartWorker, fails: bool
) -> None:
    """Prints, logs, raw output, stages, traces and exceptions, live and archived, with all that the commands show."""
    project.configure(livelog_redis_url=locked, livelog_redact=[r"tok_\w+"])
    worker(concurrency=1, env=ENVIRONMENT)
    task_id = project.send("leak", fails).id
    found = logs.archived(project, task_id)
    assert logs.lines(found)[-1] == (f"ValueError: {HIDDEN}" if fails else "done")
    assert logs.end(found).reason == (f"ValueError: {HIDDEN}" if fails else "")
    assert {f"logged {HIDDEN}", f"raw {HIDDEN}", f"echoed {HIDDEN}", HIDDEN} <= set(logs.lines(found))
    command = celery(project, "livelog", "logs", task_id) + celery(project, "livelog", "logs", task_id, "--json")
    for where in (repr(found), command, in_redis(valkey), in_files(project)):
        assert "logged ***" in where
        assert shown(where, [*SECRETS, "271828"]) == []


def test_a_shipper_that_takes_over_hides_the_same(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """What was masked is in the journal, and what the worker knew beside it: the next shipper replays both."""
    running = worker(concurrency=1, env=ENVIRONMENT)
    task = project.send("hold_masked", "go-on")
    wait_for(lambda: logs.records(project, task.id), what="the first line")
    (shipper,) = (
        process
        for process in psutil.Process(running.pid).children(recursive=True)
        if "celery_livelog.shipper" in process.cmdline()
    )
    shipper.kill()
    valkey.client.rpush("go-on", 1)
    found = logs.archived(project, task.id)
    assert logs.lines(found) == ["holding ***", "released *** ***"]
    for where in (in_redis(valkey), in_files(project)):
        assert shown(where, ["made-up-no-og", TOKEN]) == []


def test_secrets_are_shown_where_they_are_none(project: Project, worker: StartWorker) -> None:
    """The same output of a worker to which nothing of it is secret: the other test sees what there is to be seen."""
    project.configure(livelog_redact_env=False)
    worker(concurrency=1, env={**ENVIRONMENT, "TEST_MASKED_AT_START": ""})
    found = logs.archived(project, project.send("leak").id)
    assert shown(in_files(project), SECRETS) == SECRETS[:-1]
    assert logs.end(found).state == "SUCCESS"


def test_a_bad_pattern_of_a_task(project: Project, worker: StartWorker) -> None:
    """The worker's log names it once, and nothing that the task prints is shown; other tasks are not concerned."""
    running = worker(concurrency=1)
    for _ in range(2):
        found = logs.archived(project, project.run("bad_pattern").id)
        assert logs.lines(found) == ["***"]
    assert running.output().count("livelog_redact of task proj.bad_pattern: '(' is none") == 1
    assert logs.lines(logs.archived(project, project.run("print_lines", 1).id)) == ["line 1"]


def test_celery_shows_no_password(project: Project, locked: str, worker: StartWorker) -> None:
    """Neither ``celery report`` nor ``celery inspect conf``, which a worker answers."""
    project.configure(
        livelog_redis_url=locked,
        livelog_archive_url=f"file://{project.directory}/{TOKEN}",
        livelog_database_url=f"sqlite:///{project.directory}/{DSN}.db",
        livelog_secret_key=AT_START,
        livelog_redact=[PATTERN],
    )
    worker(concurrency=1)
    for said in (celery(project, "report"), celery(project, "inspect", "conf")):
        assert "livelog_redis_url" in said
        assert shown(said, [*SECRETS, quote(PASSWORD, safe="")]) == []


def test_messages_show_no_password(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """A Redis that refuses the password, and an archive whose URL a library puts into its errors."""
    wrong = valkey.url.replace("//", f"//livelog:{DSN}@")
    project.configure(livelog_redis_url=wrong, livelog_archive_url=f"az://user:{TOKEN}-1234@container/x")
    running = worker(concurrency=1)
    task_id = project.run("print_lines").id
    running.wait_for_output("the live stream cannot be written")
    running.wait_for_output("the archive cannot be written")
    assert "az://user:***@container/x" in running.output()
    for said in (running.output(), celery(project, "livelog", "logs", task_id), celery(project, "livelog", "ls")):
        assert shown(said, [DSN, TOKEN]) == []
    left = psutil.Process(running.pid).children(recursive=True)
    running.kill()
    for process in left:  # the shipper would go on trying for a minute
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_task_is_not_harmed_by_masking(project: Project, worker: StartWorker) -> None:
    """A worker without livelog runs the same code."""
    project.configure(livelog=False)
    running = worker(concurrency=1, env=ENVIRONMENT)
    project.send("leak", False)
    wait_for(lambda: "succeeded" in running.output())
