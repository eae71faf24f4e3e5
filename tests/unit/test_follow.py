"""A follower: journal and raw files of a process become records in the order of the writes, whoever is killed when."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_livelog import journal, raw_places
from celery_livelog.attempts import Attempt
from celery_livelog.frames import BEGIN, END, STDERR, STDOUT, STREAMS, TEXT, pack
from celery_livelog.records import End, Gap, Line, Record
from celery_livelog.shipper.closing import Closing
from celery_livelog.shipper.follow import Follower, Shown
from celery_livelog.writer import AttemptWriter
from tests.unit.journals import AMPLE, ENDING, PROCESS, open_journal, paths

STARTED = "2026-01-02T03:04:05.000006+00:00"


class Process:
    """A process that runs tasks, one at a time or one within another, with its descriptors in raw files."""

    def __init__(self, directory: Path, budget: int = AMPLE) -> None:
        self.directory = directory
        self.alive = True
        self.running: list[tuple[str, AttemptWriter]] = []
        #: What each attempt has written: journal lines as they are, raw pieces with their stream.
        self.written: dict[str, list[tuple[int, str]]] = {}
        self.orphans: list[dict[int, int]] = []
        self._journal = open_journal(directory, budget)
        self._slots = 0
        self._raw: dict[int, int] = {}
        self._paths: dict[str, str] = {}
        self.fresh()

    def fresh(self) -> None:
        """New raw files, as after a task that has started a process; the old ones stay open in that process."""
        if self._raw:
            self.orphans.append(self._raw)
        token = secrets.token_hex(4)
        names = {
            stream: raw_places.raw_path(self.directory, PROCESS, f"{token}.{STREAMS[stream]}")
            for stream in (STDOUT, STDERR)
        }
        self._paths = {STREAMS[stream]: str(path) for stream, path in names.items()}
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._raw = {stream: os.open(path, flags, 0o600) for stream, path in names.items()}

    def begin(self) -> None:
        self._slots += 1
        begun = Attempt(attempt=f"{self._slots:016x}", task_id=f"task-{self._slots}", pid=4711, started=STARTED)
        payload = msgspec.json.encode({"attempt": begun, "raw": self._paths})
        self._journal.append(BEGIN, 0, self._slots, 0, self._sizes(), payload, force=True)
        self.running.append((begun.attempt, AttemptWriter(self._journal, self._slots, self._sizes)))
        self.written[begun.attempt] = []

    def end(self) -> None:
        self.running.pop()[1].end(ENDING)

    def print(self, text: str) -> None:
        name, writer = self.running[-1]
        writer.write(STDOUT, f"{text}\n")
        self.written[name].append((0, text))

    def write_raw(self, stream: int, text: str) -> None:
        os.write(self._raw[stream], text.encode())
        if self.running:
            self.written[self.running[-1][0]].append((stream, text))

    def left_behind(self, text: str) -> None:
        for orphan in self.orphans:
            os.write(orphan[STDOUT], text.encode())

    def close(self) -> None:
        self.alive = False
        self._journal.close()
        for fd in (fd for raw in (*self.orphans, self._raw) for fd in raw.values()):
            os.close(fd)
        self.orphans, self._raw = [], {}

    def _sizes(self) -> tuple[int, int]:
        return os.lseek(self._raw[STDOUT], 0, os.SEEK_END), os.lseek(self._raw[STDERR], 0, os.SEEK_END)


class Shipper:
    """Followers of one process, one after the other, and the records that each attempt was given."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.given: dict[str, list[Record]] = {}
        self.console: list[bytes] = []
        self.done: set[str] = set()
        #: Attempts that have gone on in another part, with its number, and the last number that they had then.
        self.carried: list[tuple[str, int, int]] = []
        self.archived: dict[str, int] = {}
        self._before: dict[str, list[Record]] = {}
        self.closing = Closing()
        self.follower = self._open()

    def look(self, steps: int | None = None) -> None:
        """Read all that is new, in two rounds as for new raw files, or give up, as if killed, after some steps."""
        for shown in islice(chain(self.follower.read(), self.follower.read()), steps):
            self._take(shown)
        for log, ends in self.closing.due(worker_gone=not self.process.alive):
            self._take(Shown(log, ends))
        if steps is not None:
            self.start_anew()

    def start_anew(self) -> None:
        """The shipper is killed and another takes over: it must give again what was given."""
        self.check_again()
        self._before = {name: records for name, records in self.given.items() if name not in self.done}
        self.given = {name: records for name, records in self.given.items() if name in self.done}
        self.carried = []
        self.follower.close(delete=False)
        self.closing = Closing()
        self.follower = self._open()

    def secure(self) -> None:
        """All that attempts had given where a part began is archived."""
        for name, part, last in self.carried:
            self.archived[name] = max(last, self.archived.get(name, 0))
            self.follower.parts.secured(name, part)
        self.carried = []

    def check_again(self) -> None:
        """What is given now begins with what was given before, or is on its way there."""
        for name, before in self._before.items():
            now = self.given.get(name, [])
            common = min(len(now), len(before))
            assert now[:common] == before[:common]
            if len(before) > len(now):
                self.given[name] = before

    def mark_done(self) -> None:
        """All attempts that have ended are archived."""
        for name, records in self.given.items():
            if name not in self.done and records and isinstance(records[-1], End):
                self.done.add(name)
                self.follower.parts.done(name)

    def _open(self) -> Follower:
        return Follower(self.process.directory, PROCESS, lambda: self.process.alive, lambda: False, self.closing)

    def _take(self, shown: Shown) -> None:
        if shown.raw:
            self.console.append(shown.raw)
        if shown.log is None:
            return
        name = shown.log.attempt.attempt
        given = self.given.setdefault(name, [])
        if shown.part:
            self.carried.append((name, shown.part, len(given)))
        if shown.records and not given and shown.records[0].n > 1:  # the parts before are gone
            assert shown.records[0].n - 1 <= self.archived[name]
            given += self._before[name][: shown.records[0].n - 1]
        given += shown.records


def in_order(written: list[tuple[int, str]]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Each printed line with the raw lines of stdout and of stderr that were finished before it.

    Between two prints nothing tells in which order the two raw files were written.
    """
    found = []
    pending = {STDOUT: "", STDERR: ""}
    between: dict[int, list[str]] = {STDOUT: [], STDERR: []}
    for stream, text in [*written, (-1, "")]:
        if stream > 0:
            *whole, pending[stream] = (pending[stream] + text).split("\n")
            between[stream] += whole
            continue
        if stream < 0:
            for rest, at_end in pending.items():
                between[rest] += [at_end] if at_end else []
        found.append((text, tuple(between[STDOUT]), tuple(between[STDERR])))
        between = {STDOUT: [], STDERR: []}
    return found


def as_written(records: list[Record]) -> list[tuple[int, str]]:
    """Records as `in_order` takes them; what was printed begins with a P."""
    streams = {"stdout": STDOUT, "stderr": STDERR}
    return [
        (0, record.line) if record.line.startswith("P") else (streams[record.stream], f"{record.line}\n")
        for record in records
        if isinstance(record, Line)
    ]


def check_numbers(records: list[Record]) -> None:
    assert [record.n for record in records] == list(range(1, len(records) + 1))


OPERATION = st.one_of(
    st.sampled_from(["print", "print", "out", "out", "err", "half", "begin", "end", "orphan"]),
    st.sampled_from(["look", "look", "kill", "done", "secure"]),
    st.integers(0, 6),
)


def perform(operation: str | int, process: Process, shipper: Shipper, number: int) -> None:
    """One step of a history; a number is a shipper that is killed after so many steps of its work."""
    if isinstance(operation, int):
        shipper.look(operation)
    elif operation == "look":
        shipper.look()
    elif operation == "kill":
        shipper.start_anew()
    elif operation == "done":
        shipper.mark_done()
    elif operation == "secure":
        shipper.secure()
    else:
        write(operation, process, number)


def write(operation: str, process: Process, number: int) -> None:
    if operation == "print" and process.running:
        process.print(f"P{number} " + "x" * (number * 37 % 600))
    elif operation in ("out", "err"):
        process.write_raw(STDOUT if operation == "out" else STDERR, f"r{number} {'y' * (number * 31 % 300)}\n")
    elif operation == "half":
        process.write_raw(STDOUT, f"h{number}")
    elif operation == "begin" and len(process.running) < 3:
        if not process.running and number % 2:
            process.fresh()
        process.begin()
    elif operation == "end" and process.running:
        process.end()
    elif operation == "orphan":
        process.left_behind(f"orphan {number}\n")


@settings(max_examples=150)
@given(st.lists(OPERATION, min_size=15, max_size=60))
def test_any_history(history: list[str | int]) -> None:
    """Prints, raw writes, nested tasks, orphans, new parts, archived beginnings, and a shipper killed anywhere in it.

    Each attempt has what it wrote, in order, numbered from 1; every shipper gives what the one before it gave; and
    when all is archived nothing is left.
    """
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "ROTATE_BYTES", 900)
        directory = Path(name)
        process = Process(directory)
        shipper = Shipper(process)
        for number, operation in enumerate(["begin", *history]):
            perform(operation, process, shipper, number)
        lost = {name for name, _ in process.running}
        if len(history) % 2:
            process.fresh()  # it dies before it names them
        process.close()
        shipper.look()
        shipper.check_again()
        assert shipper.follower.finished
        for name, records in shipper.given.items():
            check_numbers(records)
            expected = [(stream, text) for stream, text in process.written[name] if name not in lost or stream >= 0]
            assert in_order(as_written(records)) == in_order(expected), name
            if records:
                assert isinstance(records[-1], End)
                assert (records[-1].state == "LOST") == (name in lost)
        assert {name for name, written in process.written.items() if written} <= shipper.given.keys()
        for name in process.written:
            shipper.follower.parts.done(name)
        assert not shipper.follower.parts.needed
        shipper.follower.close(delete=True)
        assert [path.name for path in directory.iterdir()] == []


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A process with one running task."""
    process = Process(tmp_path)
    process.begin()
    yield process
    process.close()


def given_now(process: Process) -> list[Record]:
    """What a new shipper gives of the first attempt."""
    shipper = Shipper(process)
    shipper.look()
    shipper.follower.close(delete=False)
    return shipper.given.get(f"{1:016x}", [])


def texts(records: list[Record]) -> list[str]:
    return [record.line for record in records if isinstance(record, Line)]


def test_prints_and_subprocesses_keep_their_order(process: Process) -> None:
    """What a subprocess wrote between two prints is between them, though nobody looked in the meantime."""
    process.print("P before")
    process.write_raw(STDOUT, "r child\n")
    process.print("P between")
    process.write_raw(STDERR, "r child's error\n")
    process.print("P after")
    assert texts(given_now(process)) == ["P before", "r child", "P between", "r child's error", "P after"]


def test_order_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipper that reads all the while, and is killed all the while, sees prints and raw lines in turn."""
    monkeypatch.setattr(journal, "ROTATE_BYTES", 500)
    process = Process(tmp_path)
    process.begin()
    count = 1500
    written = [text for number in range(count) for text in (f"P{number}", f"r{number}")]

    def write() -> None:
        for number in range(count):
            process.print(f"P{number}")
            process.write_raw(STDOUT, f"r{number}\n")
        process.end()

    thread = threading.Thread(target=write)
    thread.start()
    shipper = Shipper(process)
    looks = 0
    while thread.is_alive():
        looks += 1
        shipper.look(None if looks % 5 else looks)
    thread.join()
    process.close()
    shipper.look()
    shipper.check_again()
    (records,) = shipper.given.values()
    check_numbers(records)
    assert texts(records) == written


def test_whoever_is_left_behind_is_in_no_other_log(process: Process) -> None:
    """What a process that outlived its task writes goes to the console, not into the next task's log."""
    shipper = Shipper(process)
    process.write_raw(STDOUT, "r own\n")
    process.end()
    process.fresh()
    process.begin()
    process.left_behind("left behind\n")
    process.print("P next")
    process.write_raw(STDOUT, "r next\n")
    shipper.look()
    first, second = shipper.given.values()
    assert texts(first) == ["r own"]
    assert texts(second) == ["P next", "r next"]
    assert b"left behind\n" in shipper.console
    shipper.follower.close(delete=False)


def test_output_between_tasks_is_nobodys(process: Process) -> None:
    """What is written to the descriptors while no task runs goes to the console alone."""
    process.end()
    process.write_raw(STDOUT, "r between\n")
    shipper = Shipper(process)
    shipper.look()
    assert shipper.given == {f"{1:016x}": []}
    assert shipper.console == [b"r between\n"]
    shipper.follower.close(delete=False)


def test_the_console_is_shown_nothing_twice(process: Process) -> None:
    """A shipper that takes over gives the log again from its start, but shows the console only what is new."""
    shipper = Shipper(process)
    process.write_raw(STDOUT, "r one\n")
    shipper.look()
    shipper.start_anew()
    shipper.look()
    process.write_raw(STDOUT, "r two\n")
    shipper.look()
    assert texts(shipper.given[f"{1:016x}"]) == ["r one", "r two"]
    assert shipper.console == [b"r one\n", b"r two\n"]
    shipper.follower.close(delete=False)


def test_what_is_done_is_not_given_again(process: Process) -> None:
    """A shipper that takes over passes over the attempts that are archived, but not over the others."""
    shipper = Shipper(process)
    process.print("P done")
    process.end()
    process.begin()
    process.print("P not done")
    shipper.look()
    shipper.mark_done()
    shipper.start_anew()
    shipper.look()
    assert texts(shipper.given[f"{2:016x}"]) == ["P not done"]
    assert texts(shipper.given[f"{1:016x}"]) == ["P done"]  # from before
    assert len(shipper.given) == 2
    shipper.follower.close(delete=False)


def test_parts_go_when_all_in_them_is_done(process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is deleted with its copy once no attempt needs it or one before it; the one being written stays."""
    shipper = Shipper(process)
    for _ in range(3):
        for number in range(3):
            process.print(f"P{number}")
            process.write_raw(STDOUT, f"r{number}\n")
            shipper.look()
        process._journal._rotate_bytes = 1  # the next frame is the last of its part
        process.print("P last")
        process._journal._rotate_bytes = AMPLE
        process.end()
        process.begin()
    process.print("P running")
    shipper.look()
    assert [path.name[-14:-8] for path in paths(tmp_path)] == ["000001", "000002", "000003", "000004"]
    shipper.follower.parts.done(f"{2:016x}")
    assert len(paths(tmp_path)) == 4
    shipper.follower.parts.done(f"{1:016x}")
    assert [path.name[-14:-8] for path in paths(tmp_path)] == ["000003", "000004"] or len(paths(tmp_path)) == 3
    shipper.follower.parts.done(f"{3:016x}")
    assert [path.name[-14:-8] for path in paths(tmp_path)] == ["000004"]
    assert not list(tmp_path.glob("*000001*"))
    shipper.follower.close(delete=False)


def test_a_late_shipper_reads_the_raw_files_on(process: Process, tmp_path: Path) -> None:
    """When the first part is gone, a new shipper still knows the raw files, and where in them it stands."""
    shipper = Shipper(process)
    process.write_raw(STDOUT, "r first\n" * 2000)
    shipper.look()
    process.end()
    process._journal._rotate_bytes = 1
    process.begin()
    process._journal._rotate_bytes = AMPLE
    process.print("P second")
    process.write_raw(STDOUT, "r second\n")
    process.end()
    process.begin()
    shipper.look()
    shipper.mark_done()
    shipper.start_anew()
    process.print("P third")
    process.write_raw(STDOUT, "r third\n")
    process.print("P end")
    shipper.look()
    assert texts(shipper.given[f"{3:016x}"]) == ["P third", "r third", "P end"]
    shipper.follower.close(delete=False)


def test_a_dead_process_tasks_are_lost(process: Process) -> None:
    """What was written before the kill is there, then an end that says so; also of the task within the task."""
    process.print("P outer")
    process.begin()
    process.print("P inner")
    process.write_raw(STDOUT, "r no newline")
    process.alive = False
    shipper = Shipper(process)
    shipper.look()
    outer, inner = shipper.given.values()
    assert (texts(outer), texts(inner)) == (["P outer"], ["P inner", "r no newline"])
    for records in (outer, inner):
        end = records[-1]
        assert isinstance(end, End)
        assert (end.state, end.exit_code) == ("LOST", 137)
        assert "4711" in end.reason
    assert shipper.follower.finished
    assert shipper.follower.logs == []
    shipper.follower.close(delete=False)


def test_the_end_behind_a_frame_cut_short_is_found(process: Process, tmp_path: Path) -> None:
    """A full disk that cuts a large frame short does not turn an attempt that ended well into a lost one."""
    process.print("P before")
    shipper = Shipper(process)
    shipper.look()
    (path,) = paths(tmp_path)
    cut = pack(TEXT, STDOUT, 1, 0, 0, (0, 0), b"x" * 50_000)[:1000]
    with path.open("ab") as file:
        file.write(cut)
    process.end()
    process.alive = False
    shipper.look()
    (records,) = shipper.given.values()
    assert isinstance(records[-1], End)
    assert records[-1].state == "SUCCESS"
    shipper.follower.close(delete=False)


def test_a_late_frame_of_the_part_before_is_not_missed(process: Process, tmp_path: Path) -> None:
    """A thread may still append to a part when the next one is already there; as long as that is empty, it is read."""
    shipper = Shipper(process)
    process.print("P one")
    following = tmp_path / f"{PROCESS}.000002.journal"
    following.touch()
    shipper.look()
    process.print("P late")
    shipper.look()
    following.write_bytes(pack(END, 0, 1, 0, 1, (0, 0), ENDING))
    shipper.look()
    (records,) = shipper.given.values()
    assert texts(records) == ["P one", "P late"]
    assert isinstance(records[-1], End)
    shipper.follower.close(delete=False)


def test_beyond_the_budget_raw_lines_are_counted(process: Process) -> None:
    """With the spool full, what a subprocess writes is counted: shown + skipped = written, also for a new shipper."""
    full = False
    follower = Follower(process.directory, PROCESS, lambda: True, lambda: full, Closing())
    shipper = Shipper(process)
    shipper.follower.close(delete=False)
    shipper.follower = follower
    process.write_raw(STDOUT, "r shown\n")
    shipper.look()
    full = True
    process.write_raw(STDOUT, "r skipped\n" * 10)
    shipper.look()
    full = False
    process.write_raw(STDOUT, "r shown\n")
    process.end()
    shipper.look()
    (records,) = shipper.given.values()
    assert [record.n for record in records] == [1, 11, 12, 13]
    assert isinstance(records[1], Gap)
    assert (records[1].skipped, records[1].reason) == (10, "overload")
    shipper.start_anew()
    shipper.look()
    shipper.check_again()
    assert shipper.given == {f"{1:016x}": records}
    shipper.follower.close(delete=False)


def test_raw_files_are_deleted_when_nobody_writes_to_them(process: Process, tmp_path: Path) -> None:
    """Old raw files go with the last process that has them open; the others stay."""
    shipper = Shipper(process)
    process.end()
    (old,) = tmp_path.glob("livelog-*.stdout")
    process.fresh()
    process.begin()
    process.print("P next")
    shipper.look()
    (new,) = set(tmp_path.glob("livelog-*.stdout")) - {old}
    for fd in process.orphans.pop().values():
        os.close(fd)
    shipper.follower.files._ask_at = 0.0
    shipper.look()
    assert not old.exists()
    assert new.exists()
    shipper.follower.close(delete=False)
