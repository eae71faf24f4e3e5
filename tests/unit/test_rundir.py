"""The files of a run: appended all or nothing, by several at once, and whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import stat
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from celery_livelog.runs import Run
from celery_livelog.stores import folders, rundir
from celery_livelog.stores.rundir import find, locked

RUN = Run(run_id="run_20240620_163055_3f2a90", started="2024-06-20T16:30:55.000000+00:00")
#: Not a fork: tests have threads.
processes = get_context("spawn")


def append(root: Path, text: str, state: str = "1", run: Run = RUN, name: str = "run.log") -> None:
    with locked(root, ["a", "r"], run) as directory:
        directory.append({name: text.encode()}, {"00aa": state.encode()})


def test_lines_and_states_stay(tmp_path: Path) -> None:
    """What was appended is there in order, with what was noted last; what is noted no more is gone."""
    append(tmp_path, "one\n")
    append(tmp_path, "two\n", "2")
    append(tmp_path, "{}\n", "3", name="stages/progress.jsonl")
    folder = tmp_path / "a/r"
    assert (folder / "run.log").read_text() == "one\ntwo\n"
    assert (folder / "stages/progress.jsonl").read_text() == "{}\n"
    with locked(tmp_path, ["a", "r"], RUN) as directory:
        assert directory.state("00aa") == b"3"
        assert directory.has("run.log")
        assert not directory.has("stage_1.log")
        directory.append({}, {"00aa": None})
        assert directory.state("00aa") is None
    assert sorted(path.name for path in (folder / ".livelog").iterdir()) == ["lock", "run"]


def test_who_may_read(tmp_path: Path) -> None:
    """The group reads, nobody else; only the worker's user writes."""
    before = os.umask(0)
    try:
        append(tmp_path / "root", "one\n", name="stages/progress.jsonl")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_dir()}
    assert modes == {0o750}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()} == {0o640}


def write_many(root: Path, writer: int, count: int) -> None:
    for number in range(count):
        with locked(root, ["a", "r"], RUN) as directory:
            lines = "".join(f"{writer} {number} {part} {'x' * 50 * part}\n" for part in range(20))
            directory.append({"run.log": lines.encode(), "stage_1.log": lines.encode()}, {f"{writer:04x}": b"x"})


def test_several_processes_append_to_one_run(tmp_path: Path) -> None:
    """No line is torn, lost or doubled, and each batch stays together."""
    writers = [processes.Process(target=write_many, args=(tmp_path, writer, 50)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    for name in ("run.log", "stage_1.log"):
        lines = (tmp_path / "a/r" / name).read_text().splitlines()
        found = [tuple(map(int, line.split()[:3])) for line in lines]
        assert [line.split(" ")[3] for line in lines] == ["x" * 50 * part for _, _, part in found]
        batches = [found[at : at + 20] for at in range(0, len(found), 20)]
        assert all(batch == [(*batch[0][:2], part) for part in range(20)] for batch in batches)
        assert sorted(batch[0][:2] for batch in batches) == [(w, n) for w in range(4) for n in range(50)]


def die_while_appending(root: Path, at: int) -> None:
    """As `append`, but killed before the call of that number that changes something."""
    calls = 0

    def counted(function: object) -> object:
        def call(*args: object, **options: object) -> object:
            nonlocal calls
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            if function is os.write and calls == at:  # half of it, as a kill can leave it
                return os_write(args[0], args[1][:3])  # type: ignore[arg-type, index]
            return function(*args, **options)  # type: ignore[operator]

        return call

    os_write = os.write
    with locked(root, ["a", "r"], RUN) as directory:
        for name in ("write", "unlink", "replace"):
            setattr(os, name, counted(getattr(os, name)))
        directory.append({"run.log": b"two\n", "stages/progress.jsonl": b"{}\n"}, {"00aa": b"2", "00bb": b"1"})
    os._exit(0)


def test_who_is_killed_has_appended_all_or_nothing(tmp_path: Path) -> None:
    """At each step of an append: lines and states agree with one another when the next one comes."""
    codes = []
    for at in range(20):
        root = tmp_path / str(at)
        append(root, "one\n")
        process = processes.Process(target=die_while_appending, args=(root, at))
        process.start()
        process.join(60)
        codes.append(process.exitcode)
        with locked(root, ["a", "r"], RUN) as directory:
            told = directory.state("00aa"), directory.state("00bb")
            text = (root / "a/r/run.log").read_text(), directory.has("stages/progress.jsonl")
        nothing, everything = ((b"1", None), ("one\n", False)), ((b"2", b"1"), ("one\ntwo\n", True))
        assert (told, text) == (everything if process.exitcode == 0 else nothing), at
        if process.exitcode == 0:
            break
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    assert len(codes) > 5


def test_a_full_disk_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What half of was written is taken back at once, and the same can be appended later."""
    append(tmp_path, "one\n")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:2]))
    with pytest.raises(OSError, match="No space left"):
        append(tmp_path, "two\n", "2")
    monkeypatch.undo()
    assert (tmp_path / "a/r/run.log").read_text() == "one\n"
    append(tmp_path, "two\n", "2")
    assert (tmp_path / "a/r/run.log").read_text() == "one\ntwo\n"


def hold(root: Path, held: Event, go: Event) -> None:
    with locked(root, ["a", "r"], RUN):
        held.set()
        go.wait(60)


def test_a_lock_that_another_process_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for a moment, and then is an error; when that one is gone it is free."""
    monkeypatch.setattr(rundir, "_LOCK_TRIES", 3)
    held, go = processes.Event(), processes.Event()
    process = processes.Process(target=hold, args=(tmp_path, held, go))
    process.start()
    assert held.wait(60)
    with pytest.raises(BlockingIOError):
        append(tmp_path, "one\n")
    process.kill()
    process.join(60)
    append(tmp_path, "one\n")
    assert (tmp_path / "a/r/run.log").read_text() == "one\n"


def test_a_directory_that_another_run_has(tmp_path: Path) -> None:
    """The second run's gets a number, and stays the second run's."""
    other = Run(run_id="run_20240620_163055_other", started=RUN.started)
    append(tmp_path, "one\n")
    append(tmp_path, "other\n", run=other)
    append(tmp_path, "two\n")
    append(tmp_path, "another\n", run=other)
    assert (tmp_path / "a/r/run.log").read_text() == "one\ntwo\n"
    assert (tmp_path / "a/r_2/run.log").read_text() == "other\nanother\n"
    assert find(tmp_path, ["a", "r"], RUN.run_id) == tmp_path / "a/r"
    assert find(tmp_path, ["a", "r"], other.run_id) == tmp_path / "a/r_2"
    assert find(tmp_path, ["a", "r"], "a third") is None


@pytest.mark.parametrize("planted", ["a", "a/r", "a/r/run.log", "a/r/stages", "a/r/.livelog", "a/r/.livelog/run"])
def test_links_are_not_followed(tmp_path: Path, planted: str) -> None:
    """A symbolic link anywhere below the root is refused, and where it leads nothing is written."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    target = outside / "file" if planted.endswith(("log", "run")) else outside
    (root / planted).parent.mkdir(parents=True)
    (root / planted).symlink_to(target)
    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        append(root, "one\n", name="stages/progress.jsonl" if planted == "a/r/stages" else "run.log")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """Nobody waits for the reader of a named pipe."""
    (tmp_path / "a/r").mkdir(parents=True)
    os.mkfifo(tmp_path / "a/r/run.log") if kind == "pipe" else (tmp_path / "a/r/run.log").mkdir()
    with pytest.raises(OSError, match=r"run\.log"):
        append(tmp_path, "one\n")


def test_a_directory_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    """With what comes from then on."""
    append(tmp_path, "one\n")
    with locked(tmp_path, ["a", "r"], RUN) as directory:
        for path in sorted((tmp_path / "a").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        with pytest.raises(FileNotFoundError):
            directory.append({"run.log": b"two\n"}, {})
    append(tmp_path, "three\n")
    assert (tmp_path / "a/r/run.log").read_text() == "three\n"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Whether it goes well or not."""
    append(tmp_path, "one\n")
    (tmp_path / "a/link").symlink_to(tmp_path)
    folder = folders.top(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    append(tmp_path, "two\n")
    append(tmp_path, "two\n", run=Run(run_id="other"))
    with pytest.raises(OSError, match=r"link|directory"), locked(tmp_path, ["a", "link", "r"], RUN):
        pass
    with pytest.raises(FileNotFoundError), folders.file(folder, "none", os.O_RDONLY):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
    folders.close(folder)
