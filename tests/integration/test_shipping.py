"""From the journal to the stores: what is in Redis, archive and catalog, and that nothing is lost whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from celery_livelog.records import End, Line
from celery_livelog.spool import spent
from tests.nodes import logs
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for
from tests.nodes.worker import Worker

StartWorker = Callable[..., Worker]


def entries(valkey: Valkey, task_id: str) -> list[dict[str, str]]:
    """The entries of a task's stream."""
    return [fields for _, fields in valkey.client.xrange(f"task:logs:{task_id}")]


def newest(valkey: Valkey, task_id: str) -> dict[str, str]:
    """The last entry of a task's stream."""
    return next((fields for _, fields in valkey.client.xrevrange(f"task:logs:{task_id}", count=1)), {})


def shippers(worker: Worker) -> list[psutil.Process]:
    """The shippers that a worker has started."""
    family = psutil.Process(worker.pid).children(recursive=True)
    return [process for process in family if "celery_livelog.shipper" in process.cmdline()]


def spooled(project: Project) -> list[str]:
    """All that lies in the spool."""
    spool = Path(project.settings.spool_dir)
    return [str(path.relative_to(spool)) for path in spool.rglob("*")] if spool.exists() else []


def test_stream_of_a_task(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """While a task runs, its lines are entries of ``task:logs:{id}`` as documented, and the key will expire."""
    worker()
    running = project.send("hold", "go")
    (line,) = wait_for(lambda: entries(valkey, running.id))
    assert line.keys() == {"line", "timestamp", "stream", "type", "n", "attempt"}
    assert (line["line"], line["stream"], line["type"], line["n"]) == ("holding", "stdout", "log_line", "1")
    assert 0 < valkey.client.ttl(f"task:logs:{running.id}") <= 86_400
    assert all(valkey.client.ttl(key) > 0 for key in valkey.client.keys("task:logs:*"))
    valkey.client.rpush("go", 1)
    *_, end = wait_for(lambda: (found := entries(valkey, running.id))[2:] and found)
    assert (end["type"], end["state"], end["exit_code"], end["stream"]) == ("log_line_end", "SUCCESS", "0", "internal")


def test_finished_log_moves_to_a_shared_archive(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """Where all who serve logs can read the archive, the stream goes once the archive is verified; the log stays."""
    project.configure(livelog_archive_url=(project.directory / "archive").as_uri())
    worker()
    task_id = project.run("print_lines", 3).id
    found = logs.archived(project, task_id)
    wait_for(lambda: not valkey.client.exists(f"task:logs:{task_id}"), what="the end of the stream")
    assert logs.records(project, task_id) == found
    assert logs.lines(found) == ["line 1", "line 2", "line 3"]
    assert logs.end(found).state == "SUCCESS"
    (manifest,) = (project.directory / "archive").rglob("manifest.json")
    said = msgspec.json.decode(manifest.read_bytes())
    assert (said["state"], said["lines"], said["skipped"], said["complete"]) == ("SUCCESS", 3, 0, True)


def test_finished_logs_of_a_private_archive_stay_bounded(
    project: Project, worker: StartWorker, valkey: Valkey, tmp_path: Path
) -> None:
    """Where the archive is the worker's own, its logs are read from Redis by others; only the newest stay there."""
    project.configure(livelog_keep_finished=5)
    worker()
    sent = [project.send("print_lines", 1).id for _ in range(20)]
    for task_id in sent:
        logs.archived(project, task_id)
    streams = [f"task:logs:{task_id}" for task_id in sent]
    wait_for(lambda: valkey.client.exists(*streams) <= 5, what="the bound on finished streams")
    newest = [key for key in streams if valkey.client.exists(key)]
    assert len(newest) == 5
    project.configure(livelog_dir=str(tmp_path / "another-host"))
    task_id = newest[0].removeprefix("task:logs:")
    assert logs.lines(logs.records(project, task_id, follow=True)) == ["line 1"]
    assert logs.attempts(project, task_id)[0].state == "SUCCESS"


def test_hundred_thousand_lines_while_followed(project: Project, worker: StartWorker) -> None:
    """The archive has every line in order; a follower sees each once or a gap that counts it."""
    worker()
    count = 100_000
    task_id = "many-lines"
    project.send("number_lines", count, task_id=task_id)
    shown = logs.records(project, task_id, follow=True)
    numbers = [int(line) for line in logs.lines(shown)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + logs.skipped(shown) == count
    assert [int(line) for line in logs.lines(logs.archived(project, task_id))] == list(range(1, count + 1))


def test_silent_task_leaves_its_row_and_nothing_else(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """A task that printed nothing is known, and took no stream, no archive object and no file."""
    running = worker()
    task_id = project.run("silent").id
    (known,) = wait_for(lambda: [known for known in logs.attempts(project, task_id) if known.ended])
    assert (known.state, known.lines, known.archive) == ("SUCCESS", 0, "")
    (end,) = logs.records(project, task_id, follow=True)
    assert isinstance(end, End)
    assert (end.n, end.state) == (1, "SUCCESS")
    disk, lease = sorted(valkey.client.keys("task:logs:*"))
    assert lease.startswith("task:logs::lease:")
    assert valkey.client.get(disk) == project.settings.archive_url
    running.stop()
    assert not Path(project.settings.archive_url.removeprefix("file://")).exists()
    assert spooled(project) == []


@pytest.mark.parametrize(
    ("task", "states", "exit_code"),
    [("fail", ["FAILURE"], 1), ("retry_once", ["RETRY", "SUCCESS"], 0), ("ignore", ["IGNORED"], 0)],
)
def test_how_attempts_end(project: Project, worker: StartWorker, task: str, states: list[str], exit_code: int) -> None:
    """Each attempt has its own log and its own end."""
    worker()
    task_id = project.send(task).id
    found = logs.archived(project, task_id, len(states))
    assert [known.state for known in logs.attempts(project, task_id)] == states
    assert (logs.end(found).state, logs.end(found).exit_code) == (states[-1], exit_code)


def test_child_killed_in_the_middle(project: Project, worker: StartWorker) -> None:
    """What a killed process had printed is there, and the log says that it did not end by itself."""
    worker()
    found = logs.archived(project, project.send("kill_process").id)
    assert logs.lines(found) == ["about to be killed"]
    assert (logs.end(found).state, logs.end(found).exit_code) == ("FAILURE", 137)


def test_shipper_killed_in_the_middle(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """Another shipper takes over: the archive has each line once, and a follower sees each once."""
    running = worker(concurrency=1)
    task = project.send("print_in_turns", "go", 3000)
    wait_for(lambda: len(entries(valkey, task.id)) >= 3000, what="the first lines in the stream")
    (shipper,) = shippers(running)
    shipper.kill()
    valkey.client.rpush("go", 1)
    shown = logs.records(project, task.id, follow=True)
    expected = [str(number) for number in range(1, 6001)]
    assert logs.lines(shown) == expected
    assert logs.lines(logs.archived(project, task.id)) == expected
    assert running.stop() == 0
    assert spooled(project) == []


def test_worker_killed_in_the_middle(project: Project, worker: StartWorker) -> None:
    """The shipper outlives the worker: it archives what was printed, tidies up and leaves."""
    running = worker(concurrency=1)
    task = project.send("hold", "never")
    wait_for(lambda: logs.records(project, task.id))
    (shipper,) = shippers(running)
    running.kill()
    found = logs.archived(project, task.id)
    assert (logs.lines(found), logs.end(found).state) == (["holding"], "LOST")
    shipper.wait(30)
    assert spooled(project) == []


def test_worker_and_shipper_killed(project: Project, worker: StartWorker) -> None:
    """The next worker on the host ships what the dead one has left."""
    running = worker(concurrency=1)
    task = project.send("hold", "never")
    wait_for(lambda: logs.records(project, task.id))
    (shipper,) = shippers(running)
    shipper.suspend()  # else it would begin to tidy up between the two kills
    running.kill()
    shipper.kill()
    assert any(name.endswith(".journal") for name in spooled(project))
    (abandoned,) = Path(project.settings.spool_dir).iterdir()
    os.utime(abandoned, (0, 0))  # as if it had been left for longer
    project.app.control.purge()
    project.configure(livelog_archive_url=(project.directory / "of another app").as_uri())
    worker(concurrency=1)
    project.configure(livelog_archive_url=None)
    found = logs.archived(project, task.id)
    assert (logs.lines(found), logs.end(found).state) == (["holding"], "LOST")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_shutdown_of_the_whole_group(project: Project, worker: StartWorker, number: signal.Signals) -> None:
    """A signal to all processes at once, as from a service manager or a Ctrl-C, cuts nothing short."""
    running = worker(concurrency=1)
    task = project.run("number_lines", 5000)
    for process in (*shippers(running), psutil.Process(running.pid)):
        process.send_signal(number)
    assert running.wait() == {signal.SIGTERM: 0, signal.SIGINT: 1}[number]  # as Celery's without livelog
    assert len(logs.lines(logs.records(project, task.id))) == 5000
    assert spooled(project) == []


def test_redis_away_and_back(
    project: Project, worker: StartWorker, launch: Callable[[Any], Any], tmp_path: Path
) -> None:
    """While livelog's Redis hangs tasks run on; when it is back, so is the live log, and the archive has all."""
    (tmp_path / "live").mkdir()
    live = launch(Valkey(tmp_path / "live"))
    project.configure(livelog_redis_url=live.url)
    worker(concurrency=1)
    live.process.send_signal(signal.SIGSTOP)
    project.run("number_lines", 30_000)
    live.process.send_signal(signal.SIGCONT)
    task_id = project.run("number_lines", 100).id
    assert len(logs.lines(logs.archived(project, task_id))) == 100


def test_budget_of_the_spool(project: Project, worker: StartWorker) -> None:
    """Beyond its budget output is counted instead of kept: shown and counted make up what was printed."""
    project.configure(livelog_spool_max_bytes=200_000)
    running = worker(concurrency=1)
    wait_for(lambda: shippers(running))
    (shipper,) = shippers(running)
    shipper.suspend()
    try:
        task = project.run("number_lines", 50_000)
    finally:
        shipper.resume()
    found = logs.archived(project, task.id)
    numbers = [int(line) for line in logs.lines(found)]
    assert numbers == sorted(set(numbers))
    assert 0 < len(numbers) < 50_000
    assert len(numbers) + logs.skipped(found) == 50_000
    assert logs.end(found).n == 50_001


def test_off_is_off(project: Project, worker: StartWorker) -> None:
    """With livelog off there is no thread, no process and no file of ours."""
    project.configure(livelog=False)
    running = worker(concurrency=1)
    project.run("print_lines")
    main = psutil.Process(running.pid)
    (child,) = main.children(recursive=True)
    assert shippers(running) == []
    assert not Path(project.settings.dir).exists()
    project.configure(livelog=None)
    bare = worker(concurrency=1)
    project.run("print_lines")
    bare_main = psutil.Process(bare.pid)
    assert main.num_threads() == bare_main.num_threads()
    assert child.num_threads() == bare_main.children(recursive=True)[0].num_threads()
    assert main.num_fds() == bare_main.num_fds()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"livelog_maxlan": 5}, "livelog_maxlan is not a setting of celery-livelog; did you mean livelog_maxlen?"),
        ({"livelog_maxlen": "many"}, "livelog_maxlen is 'many'; expected a whole number above 0"),
        ({"livelog_spool_dir": "/proc/nowhere"}, "the spool directory /proc/nowhere cannot be used"),
        ({"livelog_redact": ["("]}, "livelog_redact is ['(']; expected regular expressions that match secrets; '(' is"),
        (
            {"livelog_transport": "https://logs"},
            "livelog_transport is of type str; expected a URL with one of wss://, ws://",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_unusable_settings(project: Project, worker: StartWorker, settings: dict[str, Any], said: str) -> None:
    """What cannot be used is said in one line, and tasks run without livelog."""
    project.configure(**settings)
    running = worker(concurrency=1)
    assert project.run("print_lines").result == 3
    assert running.output().count("livelog is off in this process: " + said) == 1
    assert "Traceback" not in running.output()


def test_no_redis(project: Project, worker: StartWorker) -> None:
    """Without a Redis anywhere logs are archived, and one warning says that they are not live."""
    queue = project.directory / "queue"
    queue.mkdir()
    transport = {"data_folder_in": str(queue), "data_folder_out": str(queue), "control_folder": str(queue)}
    project.configure(broker_url="filesystem://", result_backend=f"file://{queue}", broker_transport_options=transport)
    project.app.conf.update(project.conf)
    running = worker(concurrency=1, args=["--without-heartbeat"])
    task_id = project.send("print_lines").id
    assert logs.lines(logs.archived(project, task_id)) == ["line 1", "line 2", "line 3"]
    assert running.output().count("livelog has no Redis") == 1


def test_spawned_children(project: Project, worker: StartWorker) -> None:
    """Children that inherit nothing, because the pool spawns them, are captured too."""
    project.configure(worker_pool_start_method="spawn")
    worker(concurrency=1, env={"FORKED_BY_MULTIPROCESSING": ""})
    task_id = project.send("write_descriptors").id
    assert logs.lines(logs.archived(project, task_id)) == ["raw one", "raw two"]


def test_partial_lines_show_while_the_task_waits(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """A prompt without a newline is shown live; the whole line takes its place."""
    worker(concurrency=1)
    task = project.send("prompt", "go")
    (shown,) = wait_for(lambda: entries(valkey, task.id), timeout=5)
    assert (shown["type"], shown["line"], shown["n"]) == ("partial", "name? ", "1")
    valkey.client.rpush("go", 1)
    found = logs.archived(project, task.id)
    assert next(record for record in found if isinstance(record, Line)).line == "name? Celery"


def test_same_id_twice_at_once(project: Project, worker: StartWorker, valkey: Valkey) -> None:
    """Two workers that run one task id at once have two attempts with a log each."""
    worker(concurrency=1)
    worker(concurrency=1)
    for _ in range(2):
        project.send("hold", "go", task_id="twice")
    wait_for(lambda: len(logs.attempts(project, "twice")) == 2)
    valkey.client.rpush("go", 1, 1)
    found = logs.archived(project, "twice", 2)
    assert logs.lines(found) == ["holding", "released"] * 2
    assert os.listdir(f"{project.settings.dir}/archive/tasks") == ["twice"]


def test_journal_goes_in_parts(project: Project, worker: StartWorker) -> None:
    """A journal's parts are deleted as their tasks are archived, while the process that writes them lives on."""
    project.configure(livelog_spool_max_bytes=2_000_000)
    running = worker(concurrency=1)
    for _ in range(4):
        task = project.run("number_lines", 10_000)
        assert len(logs.lines(logs.archived(project, task.id))) == 10_000

    def parts() -> int:
        """Those of the child; the main process has a journal of its own."""
        names = [Path(name).name for name in spooled(project)]
        return sum(name.endswith(".journal") and not name.startswith(f"{running.pid}-") for name in names)

    wait_for(lambda: parts() == 1, what="one part that is left")


@pytest.mark.parametrize("killed", [(), (3, 5)])
def test_a_task_may_print_more_than_the_budget(
    project: Project, worker: StartWorker, valkey: Valkey, killed: tuple[int, ...]
) -> None:
    """What is archived of a task that runs needs no journal: it prints more than the spool holds, and all is kept.

    In some turns the shipper is killed: another goes on in the middle.
    """
    project.configure(livelog_spool_max_bytes=1_000_000)
    running = worker(concurrency=1)
    task = project.send("print_in_turns", "go", 10_000, 8)
    for turn in range(1, 8):
        if turn in killed:
            wait_for(lambda: shippers(running))[0].kill()
        last = str(10_000 * turn)
        wait_for(lambda last=last: newest(valkey, task.id).get("line") == last, what=f"line {last}")
        (directory,) = Path(project.settings.spool_dir).iterdir()
        wait_for(lambda directory=directory: spent(directory) < 400_000, what="room in the spool")
        valkey.client.rpush("go", 1)
    found = logs.archived(project, task.id)
    assert [int(line) for line in logs.lines(found)] == list(range(1, 80_001))
    assert logs.skipped(found) == 0
