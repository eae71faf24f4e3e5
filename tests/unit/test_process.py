"""Capture in a process: all that its tasks write is in their logs, in order, and in the end all is as it was before."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from celery_livelog import spool
from celery_livelog.records import End, Line, Record
from celery_livelog.shipper.closing import Closing
from celery_livelog.shipper.follow import Follower
from celery_livelog.shipper.parts import processes
from tests.unit import children

#: Runs as the process of a worker: `task(name, code)` runs a function as a task.
PREAMBLE = """
import logging, os, subprocess, sys, threading
from contextlib import contextmanager
from pathlib import Path
from celery_livelog.attempts import Attempt
from celery_livelog.endings import Ending
from celery_livelog.process import Capture
from celery_livelog.settings import Settings
from celery_livelog.stages import stage

directory = Path(sys.argv[1])
number = 0

def capture(one_at_a_time=True, **settings):
    global kept
    kept = Capture(directory, Settings(**settings), one_at_a_time=one_at_a_time)
    return kept

@contextmanager
def task(name, state="SUCCESS"):
    global number
    number += 1
    writer, token = kept.begin(Attempt(attempt=f"{number:016x}", task_id=name, pid=os.getpid(), started=str(number)))
    yield
    kept.end(writer, token, Ending(state, 0))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A new spool directory."""
    return spool.create(str(tmp_path))


def run(code: str, directory: Path, exit_code: int = 0) -> tuple[str, str]:
    """Run code behind the preamble; give what it showed on stdout and stderr."""
    child = children.end_of(PREAMBLE + textwrap.dedent(code), directory)
    assert child.returncode == exit_code, child.stderr
    return child.stdout, child.stderr


def logs(directory: Path) -> dict[str, list[Record]]:
    """The records of each task, by id."""
    found: dict[str, list[Record]] = {}
    for process in processes(directory):
        closing = Closing()
        follower = Follower(directory, process, lambda: False, lambda: False, closing)
        for shown in follower.read():
            if shown.log is not None:
                found.setdefault(shown.log.attempt.task_id, []).extend(shown.records)
        for log, ends in closing.due(worker_gone=True):
            found[log.attempt.task_id].extend(ends)
        assert follower.finished
        follower.close(delete=True)
    return found


def lines(records: list[Record]) -> list[tuple[str, str]]:
    return [(record.stream, record.line) for record in records if isinstance(record, Line)]


def state(records: list[Record]) -> str:
    end = records[-1]
    assert isinstance(end, End)
    return end.state


def test_every_way_to_write_is_in_order(directory: Path) -> None:
    """Prints, descriptors, C, subprocesses, logging, bytes and threads: each once, in the order of the writes."""
    out, err = run(
        """
        import ctypes
        capture()
        with task("all"):
            print("print")
            os.write(1, b"descriptor\\n")
            print("to stderr", file=sys.stderr)
            os.write(2, b"descriptor 2\\n")
            logging.getLogger("library").warning("logged")
            subprocess.run(["echo", "child"])
            sys.stdout.buffer.write(b"bytes\\n")
            subprocess.run(["echo", "child with our stdout"], stdout=sys.stdout)
            thread = threading.Thread(target=print, args=("thread",))
            thread.start()
            thread.join()
            os.system("echo shell >&2")
            print("between")
            sys.__stdout__.write("the original\\n")
            sys.__stdout__.flush()
            print("last")
            ctypes.CDLL(None).printf(b"C, held back in its buffer\\n")
        kept.close()
        """,
        directory,
    )
    found = logs(directory)["all"]
    assert lines(found) == [
        ("stdout", "print"),
        ("stdout", "descriptor"),
        ("stderr", "to stderr"),
        ("stderr", "descriptor 2"),
        ("log", "logged"),
        ("stdout", "child"),
        ("stdout", "bytes"),
        ("stdout", "child with our stdout"),
        ("stdout", "thread"),
        ("stderr", "shell"),
        ("stdout", "between"),
        ("stdout", "the original"),
        ("stdout", "last"),
        ("stdout", "C, held back in its buffer"),
    ]
    assert state(found) == "SUCCESS"
    # What was written to the descriptors comes to the console through the shipper.
    assert out == "print\nbytes\nthread\nbetween\nlast\n"
    assert "to stderr\n" in err


def test_without_tee_the_console_stays_empty(directory: Path) -> None:
    """With ``livelog_tee = False`` what tasks write is in their logs alone; what the process itself prints is shown."""
    out, err = run(
        """
        logging.basicConfig(format="%(message)s")
        capture(tee=False)
        print("the worker's")
        with task("quiet"):
            print("printed")
            logging.warning("logged")
            os.write(1, b"written\\n")
        logging.warning("the worker's own")
        kept.close()
        """,
        directory,
    )
    assert (out, err) == ("the worker's\n", "the worker's own\n")
    assert lines(logs(directory)["quiet"]) == [("stdout", "printed"), ("log", "logged"), ("stdout", "written")]


def test_a_log_handler_of_before_shows_records_once(directory: Path) -> None:
    """A handler that writes to the stderr of before still shows them there, and they are records in the log."""
    _, err = run(
        """
        logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
        capture()
        with task("logging"):
            logging.getLogger("library").error("failed")
        kept.close()
        """,
        directory,
    )
    assert err == "ERROR failed\n"
    assert lines(logs(directory)["logging"]) == [("log", "failed")]


def test_in_the_end_all_is_as_before(directory: Path) -> None:
    """Streams, descriptors, handlers and threads; also when it is closed in the middle of a task, and twice."""
    run(
        """
        def things():
            ids = [(os.fstat(fd).st_dev, os.fstat(fd).st_ino) for fd in (1, 2)]
            handlers = [list(logging.getLogger(name).handlers) for name in ("", "celery.task")]
            return ids, handlers, sys.stdout, sys.stderr, threading.Thread.start
        before = things()
        capture()
        with task("one"):
            pass
        kept.begin(Attempt(attempt="f" * 16, task_id="cut off"))
        assert things() != before
        kept.close()
        kept.close()
        assert things() == before
        """,
        directory,
    )
    found = logs(directory)
    assert (found["one"], state(found["cut off"])) == ([], "LOST")


def test_what_is_left_behind_is_in_no_other_log(directory: Path) -> None:
    """A process that outlives its task writes into the void of its own task's files, never into the next log."""
    run(
        """
        capture()
        with task("first"):
            child = subprocess.Popen(
                [sys.executable, "-c", "import sys; print('in time', flush=True); sys.stdin.read(); print('too late')"],
                stdin=subprocess.PIPE,
            )
            while not os.fstat(1).st_size:
                pass
        with task("second"):
            print("second")
            child.communicate()
            os.write(1, b"second, raw\\n")
        kept.close()
        """,
        directory,
    )
    found = logs(directory)
    assert lines(found["first"]) == [("stdout", "in time")]
    assert lines(found["second"]) == [("stdout", "second"), ("stdout", "second, raw")]


def test_a_task_within_a_task(directory: Path) -> None:
    """Each has what was written while it ran; the outer one goes on where it was."""
    run(
        """
        capture()
        with task("outer"):
            print("outer ", end="")
            with task("inner", "FAILURE"):
                print("inner")
                os.write(1, b"inner, raw\\n")
            os.write(2, b"outer, raw\\n")
            print("again")
        kept.close()
        """,
        directory,
    )
    found = logs(directory)
    assert lines(found["inner"]) == [("stdout", "inner"), ("stdout", "inner, raw")]
    assert lines(found["outer"]) == [("stderr", "outer, raw"), ("stdout", "outer again")]
    assert (state(found["outer"]), state(found["inner"])) == ("SUCCESS", "FAILURE")


@pytest.mark.parametrize("captured", [("stdout", "stderr", "logging", "fd"), ("stdout", "stderr", "logging")])
def test_forked_children(directory: Path, captured: tuple[str, ...]) -> None:
    """What they print is in the task's log once; one that comes back up the stack does not end its parent's task."""
    run(
        f"""
        import multiprocessing
        capture(capture={captured!r})
        with task("forking"):
            print("half of the parent's ", end="")
            pid = os.fork()
            if not pid:
                print("child")
                os._exit(0)
            os.waitpid(pid, 0)
            print("line")
            worker = multiprocessing.get_context("fork").Process(target=print, args=("grandchild",))
            worker.start()
            worker.join()
            pid = os.fork()
            if pid:
                assert os.waitpid(pid, 0) == (pid, 0)
                print("after the child that came back")
        if not pid:
            os._exit(0)
        kept.close()
        """,
        directory,
    )
    found = logs(directory)["forking"]
    assert sorted(lines(found)) == sorted(
        [
            ("stdout", "child"),
            ("stdout", "grandchild"),
            ("stdout", "half of the parent's line"),
            ("stdout", "after the child that came back"),
        ]
    )
    assert state(found) == "SUCCESS"


def test_a_killed_process_loses_no_line(directory: Path) -> None:
    """All that was written before the kill is in the log, which says that the task was lost."""
    run(
        """
        import signal
        capture()
        with task("killed"):
            print("printed")
            os.write(1, b"written\\n")
            logging.warning("logged")
            os.write(2, b"last words")
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        directory,
        exit_code=-9,
    )
    found = logs(directory)["killed"]
    assert lines(found) == [("stdout", "printed"), ("stdout", "written"), ("log", "logged"), ("stderr", "last words")]
    assert state(found) == "LOST"


def test_a_crash_leaves_its_traceback(directory: Path) -> None:
    """What the interpreter says of a crash is in the log of the task that crashed."""
    run(
        """
        import faulthandler
        faulthandler.enable()
        capture()
        with task("crash"):
            print("before")
            faulthandler._sigsegv()
        """,
        directory,
        exit_code=-11,
    )
    found = lines(logs(directory)["crash"])
    assert found[:2] == [("stdout", "before"), ("stderr", "Fatal Python error: Segmentation fault")]


def test_tasks_in_threads_do_not_mix(directory: Path) -> None:
    """In a pool of threads each task has its own lines; the descriptors, which belong to all, are left alone."""
    out, _ = run(
        """
        capture(one_at_a_time=False)
        barrier = threading.Barrier(5)

        def work(name):
            with task(name):
                barrier.wait()
                for step in range(100):
                    print(name, end=" ")
                    print(step)
                    logging.getLogger("library").warning("%s", name)
        threads = [threading.Thread(target=work, args=(f"task-{at}",)) for at in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.write(1, b"nobody's\\n")
        kept.close()
        """,
        directory,
    )
    found = logs(directory)
    for at in range(5):
        name = f"task-{at}"
        expected = [pair for step in range(100) for pair in (("stdout", f"{name} {step}"), ("log", name))]
        assert lines(found[name]) == expected
    assert "nobody's\n" in out


def test_a_name_that_is_no_text_stops_nothing_else(directory: Path) -> None:
    """An attempt that cannot be begun leaves the process as it was: the next one has its log."""
    out, _ = run(
        """
        capture()
        try:
            kept.begin(Attempt(attempt="f" * 16, task_id="\\udcff"))
        except UnicodeEncodeError:
            print("refused", flush=True)
        os.write(1, b"shown\\n")
        with task("next"):
            os.write(1, b"captured\\n")
        kept.close()
        """,
        directory,
    )
    assert out == "refused\nshown\n"
    assert lines(logs(directory)["next"]) == [("stdout", "captured")]


def test_a_task_may_replace_its_streams(directory: Path) -> None:
    """What it sends elsewhere stays there; the next task is captured as ever."""
    run(
        """
        import contextlib, io
        capture()
        with task("first"):
            with contextlib.redirect_stdout(io.StringIO()) as elsewhere:
                print("elsewhere")
            assert elsewhere.getvalue() == "elsewhere\\n"
            print("here")
            sys.stdout = sys.__stdout__
            print("through the original", flush=True)
        with task("second"):
            print("second")
            sys.stdout.close()
            os.write(1, b"raw\\n")
        kept.close()
        """,
        directory,
    )
    found = logs(directory)
    assert lines(found["first"]) == [("stdout", "here"), ("stdout", "through the original")]
    assert lines(found["second"]) == [("stdout", "second"), ("stdout", "raw")]


def test_raw_files_go_to_the_spool_where_shared_memory_is_small(directory: Path) -> None:
    """As in a container with Docker's 64 MiB; nobody else can read them, and they are gone in the end."""
    run(
        """
        from celery_livelog import raw_places
        raw_places._SHARED_MEMORY_ROOM = 1 << 60
        capture()
        with task("small"):
            os.write(1, b"raw\\n")
            (path,) = directory.glob("*.stdout")
            assert path.stat().st_mode & 0o777 == 0o600
        kept.close()
        """,
        directory,
    )
    assert lines(logs(directory)["small"]) == [("stdout", "raw")]
    assert sorted(path.name for path in directory.iterdir()) == ["awake", "doorbell"]
