"""The stand-in for ``sys.stdout``: it captures what a task writes, lets it through, and is a stream like any other."""

from __future__ import annotations

import copy
import gc
import io
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_livelog.capture import Tee
from celery_livelog.frames import STDERR, STDOUT
from celery_livelog.logs import ConsoleFilter, LogHandler
from celery_livelog.writer import AttemptWriter, current
from tests.unit.journals import ENDING, begin, lines, open_journal, records


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AttemptWriter]:
    """The running task's writer."""
    journal = open_journal(tmp_path)
    writer = begin(journal)
    token = current.set(writer)
    yield writer
    current.reset(token)
    journal.close()


@pytest.fixture
def log_handler() -> Iterator[LogHandler]:
    """Our handler in its place on the root logger."""
    handler = LogHandler()
    logging.root.handlers.insert(0, handler)
    yield handler
    logging.root.removeHandler(handler)


class Console(io.TextIOWrapper):
    """A text stream over bytes, as a process' own stdout is."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    @property
    def shown(self) -> str:
        self.flush()
        shown = self.buffer
        assert isinstance(shown, io.BytesIO)
        return shown.getvalue().decode()


@pytest.fixture
def console() -> Console:
    """What stood in the place of ``sys.stdout``."""
    return Console()


def captured(writer: AttemptWriter, directory: Path) -> list[tuple[str, str]]:
    """What the task's log holds once it has ended."""
    writer.end(ENDING)
    return lines(records(directory))


def test_a_print_is_captured_and_shown(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """What a task prints is in its log, and still goes where it went."""
    tee = Tee(console, STDOUT, console)
    print("one", "line", file=tee)
    tee.writelines(["two ", "pieces\n", "no newline"])
    assert tee.write("…\n") == 2
    assert captured(writer, tmp_path) == [("stdout", "one line"), ("stdout", "two pieces"), ("stdout", "no newline…")]
    assert console.shown == "one line\ntwo pieces\nno newline…\n"


def test_outside_a_task_it_only_lets_through(console: Console) -> None:
    """What the worker itself prints is in no task's log."""
    tee = Tee(console, STDOUT, None)
    assert tee.write("the worker's\n") == 13
    tee.buffer.write(b"bytes\n")
    tee.flush()
    assert console.shown == "the worker's\nbytes\n"


def test_after_the_end_it_only_lets_through(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """A thread that outlives its task prints to the console, whatever the tee, and into nobody's log."""
    tee = Tee(console, STDOUT, None)
    tee.write("in time\n")
    assert captured(writer, tmp_path) == [("stdout", "in time")]
    tee.write("late\n")
    tee.buffer.write(b"late bytes\n")
    assert lines(records(tmp_path)) == [("stdout", "in time")]
    assert console.shown == "late\nlate bytes\n"


def test_without_tee_nothing_is_shown(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """With ``livelog_tee = False`` a task's text and bytes are in its log alone."""
    tee = Tee(console, STDERR, None)
    tee.write("text\n")
    tee.buffer.write(b"bytes\n")
    tee.flush()
    assert captured(writer, tmp_path) == [("stderr", "text"), ("stderr", "bytes")]
    assert console.shown == ""


def test_bytes_are_captured_in_their_place(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """``sys.stdout.buffer`` takes any bytes, also such as are no text, and keeps their order with prints."""
    tee = Tee(console, STDOUT, console)
    tee.write("before ")
    assert tee.buffer.write(memoryview(b"bytes \xc3\xa9")) == 8
    tee.buffer.write(bytearray(b" \xff"))
    tee.buffer.flush()
    tee.write(" after\n")
    assert captured(writer, tmp_path) == [("stdout", "before bytes é \\xff after")]
    console.flush()
    assert isinstance(console.buffer, io.BytesIO)
    assert console.buffer.getvalue() == b"before bytes \xc3\xa9 \xff after\n"


def test_bytes_for_a_stream_without_bytes(writer: AttemptWriter, tmp_path: Path) -> None:
    """Where a text stream with no buffer stood, such as Celery's own stand-in, bytes arrive there as text."""
    inner = io.StringIO()
    Tee(inner, STDOUT, inner).buffer.write(b"caf\xe9\n")
    assert captured(writer, tmp_path) == [("stdout", "caf\\xe9")]
    assert inner.getvalue() == "caf\\xe9\n"


def test_a_flush_shows_a_half_line(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """``print(end="", flush=True)`` is in the journal at once."""
    print("Loading", end="", flush=True, file=Tee(console, STDOUT, console))
    assert any(b"Loading" in path.read_bytes() for path in tmp_path.iterdir())
    assert console.shown == "Loading"


@pytest.mark.parametrize("no_text", [b"bytes", 5, None])
def test_only_text_is_text(writer: AttemptWriter, console: Console, tmp_path: Path, no_text: object) -> None:
    """What is no text is refused as by any text stream, and leaves nothing behind."""
    with pytest.raises(TypeError, match="must be str"):
        Tee(console, STDOUT, console).write(no_text)  # type: ignore[arg-type]
    assert captured(writer, tmp_path) == []
    assert console.shown == ""


@pytest.mark.usefixtures("writer")
def test_it_is_a_stream_like_the_one_before(console: Console, tmp_path: Path) -> None:
    """Libraries ask a stream many things: descriptor, terminal, encoding, and attributes that only the inner has."""
    with (tmp_path / "console").open("w", encoding="latin-1", errors="replace") as inner:
        tee = Tee(inner, STDOUT, inner)
        assert tee.fileno() == tee.buffer.fileno() == inner.fileno()
        assert (tee.encoding, tee.errors) == ("latin-1", "replace")
        assert (tee.isatty(), tee.buffer.isatty()) == (False, False)
        assert tee.writable()
        assert tee.buffer.writable()
        assert not tee.readable()
        assert tee.name == str(tmp_path / "console")
        tee.reconfigure(errors="strict")
        assert (inner.errors, tee.errors) == ("strict", "strict")
        with pytest.raises(AttributeError):
            _ = tee.no_such_attribute


def test_a_stream_that_is_hardly_one() -> None:
    """Celery's stand-in has no descriptor and no encoding; the tee has both, for ``subprocess.run(stdout=…)``."""

    class Bare:
        def write(self, text: str) -> None:
            self.text = text

        def isatty(self) -> bool:
            return True

    inner = Bare()
    tee = Tee(inner, STDERR, inner)
    assert (tee.fileno(), tee.encoding, tee.errors, tee.isatty()) == (2, "utf-8", "backslashreplace", True)
    assert tee.write("text") == 4
    tee.flush()
    assert inner.text == "text"


def test_closing_it_closes_what_was_there(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """A closed stdout is closed as without livelog, and says so; letting go of it closes nothing."""
    Tee(console, STDOUT, console).buffer.write(b"before\n")
    gc.collect()
    tee = Tee(console, STDOUT, console)
    with tee as stream:
        stream.write("in with\n")
    assert tee.closed
    assert tee.buffer.closed
    with pytest.raises(ValueError, match="closed file"):
        tee.write("too late\n")
    assert console.closed
    assert captured(writer, tmp_path)[:2] == [("stdout", "before"), ("stdout", "in with")]


def test_the_bytes_of_a_stream_may_be_taken_over(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """Scripts put a text stream of their own around ``sys.stdout.detach()``: captured once, and shown."""
    tee = Tee(console, STDOUT, console)
    own = io.TextIOWrapper(tee.detach(), encoding="utf-8", line_buffering=True)
    print("through its own", file=own)
    assert captured(writer, tmp_path) == [("stdout", "through its own")]
    assert console.shown == "through its own\n"


def test_a_copy_is_one_of_what_was_there(writer: AttemptWriter) -> None:
    """Celery's stand-in can be copied and pickled, so what has a reference to it can."""
    copied = copy.deepcopy(Tee(Shown(), STDOUT, None))
    assert isinstance(copied, Shown)


class Shown:
    """A stream that can be copied."""


def test_threads_without_a_task_are_not_captured(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """Only the code that runs for the task writes to its log."""
    tee = Tee(console, STDOUT, console)
    worker = threading.Thread(target=tee.write, args=("another's\n",))
    worker.start()
    worker.join()
    assert captured(writer, tmp_path) == []
    assert console.shown == "another's\n"


@pytest.mark.usefixtures("log_handler")
@pytest.mark.parametrize("place", ["", "own.logger"])
def test_a_handler_of_the_tasks_own_does_not_double(
    writer: AttemptWriter, console: Console, tmp_path: Path, place: str
) -> None:
    """A record that a ``StreamHandler(sys.stderr)`` made inside a task shows too is once in the log: as a record."""
    tee = Tee(console, STDERR, console)
    handler = logging.StreamHandler(tee)
    logger = logging.getLogger(place)
    logger.addHandler(handler)
    try:
        logging.getLogger("own.logger").warning("once")
        print("a print between", file=tee)
        logging.getLogger("own.logger").warning("twice")
    finally:
        logger.removeHandler(handler)
    assert captured(writer, tmp_path) == [("log", "once"), ("stderr", "a print between"), ("log", "twice")]
    assert console.shown == "once\na print between\ntwice\n"


@pytest.mark.usefixtures("log_handler")
def test_a_handler_whose_records_go_nowhere_else(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """A logger that does not propagate reaches our handler never: what its own handler prints is what there is."""
    handler = logging.StreamHandler(Tee(console, STDERR, console))
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("apart")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.warning("alone")
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert captured(writer, tmp_path) == [("stderr", "WARNING alone")]


def test_a_handler_is_captured_where_logging_is_not(writer: AttemptWriter, console: Console, tmp_path: Path) -> None:
    """With ``livelog_capture`` of the streams only, log records are text as any other."""
    handler = logging.StreamHandler(Tee(console, STDERR, console))
    logging.root.addHandler(handler)
    try:
        logging.getLogger("own.logger").warning("as text")
    finally:
        logging.root.removeHandler(handler)
    assert captured(writer, tmp_path) == [("stderr", "as text")]


@pytest.mark.usefixtures("log_handler")
def test_log_records_come_with_their_traceback(writer: AttemptWriter, tmp_path: Path) -> None:
    """`logging.exception` is a record of several lines; arguments that do not fit are shown as they are."""
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("lib").exception("it failed: %s", "so")
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        logging.getLogger("lib").error("only %d", "text")
    finally:
        logging.raiseExceptions = before
    found = captured(writer, tmp_path)
    assert found[0] == ("log", "it failed: so")
    assert found[1] == ("log", "Traceback (most recent call last):")
    assert found[-2:] == [("log", "ValueError: no"), ("log", "'only %d' ('text',)")]


@pytest.mark.usefixtures("log_handler")
def test_celerys_own_records_are_not_the_tasks(writer: AttemptWriter, tmp_path: Path) -> None:
    """A redirected print would be there twice, and that it has succeeded a task does not say itself. Failures show."""
    logging.getLogger("celery.redirected").warning("a print")
    trace = logging.getLogger("celery.app.trace")
    before, trace.level = trace.level, logging.DEBUG
    try:
        trace.info("Task proj.add succeeded")
        trace.error("Task proj.add raised")
    finally:
        trace.level = before
    assert captured(writer, tmp_path) == [("log", "Task proj.add raised")]


def test_records_of_tasks_are_kept_off_the_console(
    writer: AttemptWriter, log_handler: LogHandler, console: Console, tmp_path: Path
) -> None:
    """With ``livelog_tee = False`` a task's records are in its log alone, the worker's own on the console alone."""
    handler = logging.StreamHandler(console)
    handler.addFilter(ConsoleFilter(log_handler))
    logging.root.addHandler(handler)
    try:
        logging.getLogger("lib").warning("the task's")
        worker = threading.Thread(target=logging.getLogger("lib").warning, args=("the worker's",))
        worker.start()
        worker.join()
    finally:
        logging.root.removeHandler(handler)
    assert captured(writer, tmp_path) == [("log", "the task's")]
    assert console.shown == "the worker's\n"


@pytest.mark.usefixtures("writer")
def test_the_real_stdout_was_left_alone() -> None:
    """These tests don't replace the process' streams."""
    assert not isinstance(sys.stdout, Tee)
