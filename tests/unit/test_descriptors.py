"""Descriptors 1 and 2 of a process: raw files while a task runs, the console before and after."""

from __future__ import annotations

from pathlib import Path

from tests.unit import children

#: Descriptors whose raw files are in the directory that the command line names.
PREAMBLE = """
import ctypes, logging, os, resource, subprocess, sys
from pathlib import Path
from celery_livelog import descriptors, raw_places

raw_places._SHARED_MEMORY_ROOM = 1 << 60
directory = Path(sys.argv[1])
captured = descriptors.Descriptors(directory, "4711-ab")

def raw(name):
    return Path(captured.paths[name]).read_bytes()
"""


def run(code: str, directory: Path) -> tuple[str, str]:
    """Run code behind the preamble; give what it showed on stdout and stderr."""
    child = children.end_of(PREAMBLE + code, directory)
    assert child.returncode == 0, child.stderr
    return child.stdout, child.stderr


def test_raw_files_while_a_task_runs(tmp_path: Path) -> None:
    """Whoever writes to 1 and 2 writes there: Python, C's buffers and subprocesses; and to the console otherwise."""
    out, err = run(
        """
os.write(1, b"before\\n")
ctypes.CDLL(None).printf(b"before, held back in C's buffer\\n")
sys.__stdout__.write("before, held back in Python's\\n")
captured.engage()
os.write(1, b"one\\n")
subprocess.run("echo two; echo err >&2", shell=True)
ctypes.CDLL(None).printf(b"three\\n")
sys.__stdout__.write("four\\n")
captured.release()
assert sorted(raw("stdout").split()) == [b"four", b"one", b"three", b"two"]
assert raw("stderr") == b"err\\n"
assert captured.sizes() == (len(raw("stdout")), 4)
os.write(1, b"after\\n")
""",
        tmp_path,
    )
    before, *held_back, after = out.splitlines()
    assert (before, after, err) == ("before", "after", "")
    assert sorted(held_back) == ["before, held back in C's buffer", "before, held back in Python's"]


def test_each_task_has_files_of_its_own(tmp_path: Path) -> None:
    """Whoever was left behind with the old ones does not write into the new; tasks within a task share theirs."""
    out, _ = run(
        """
captured.engage()
first = captured.paths
left_behind = os.dup(1)
captured.release()
captured.engage()
assert captured.paths != first
captured.engage()
second = captured.paths
os.write(1, b"inner ")
captured.release()
os.write(1, b"outer")
os.write(left_behind, b"late")
captured.release()
assert captured.paths == second
assert raw("stdout") == b"inner outer"
assert captured.sizes() == (11, 0)
assert Path(first["stdout"]).read_bytes() == b"late"
for path in directory.iterdir():
    assert path.stat().st_mode & 0o777 == 0o600
os.write(1, b"console")
""",
        tmp_path,
    )
    assert out == "console"


def test_handlers_of_the_console_are_spared(tmp_path: Path) -> None:
    """A log handler that writes to 1 or 2 goes on to write to the console, so that its records are not there twice."""
    out, err = run(
        """
root, library = logging.getLogger(), logging.getLogger("library")
root.addHandler(logging.StreamHandler(sys.stderr))
library.addHandler(logging.StreamHandler(sys.stdout))
file = logging.FileHandler(directory / "file")
root.addHandler(file)
captured.spare_handlers()
captured.engage()
library.warning("logged")
captured.release()
assert (raw("stdout"), raw("stderr")) == (b"", b"")
assert (directory / "file").read_text() == "logged\\n"
""",
        tmp_path,
    )
    assert (out, err) == ("logged\n", "logged\n")


def test_closing_in_the_middle_of_a_task(tmp_path: Path) -> None:
    """However deep it is, the console has 1 and 2 again; twice does no harm."""
    out, _ = run(
        """
captured.engage()
captured.engage()
captured.close()
captured.close()
os.write(1, b"console")
""",
        tmp_path,
    )
    assert out == "console"


def test_without_room_for_raw_files_the_console_is_kept(tmp_path: Path) -> None:
    """A process that has no more descriptors is told so, and 1 and 2 are what they were."""
    out, _ = run(
        """
resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    captured.engage()
except OSError:
    os.write(1, b"console")
""",
        tmp_path,
    )
    assert out == "console"
