"""structlog in a task: each event once in the log, with level and logger, and on the console as before."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from celery_livelog.attempts import Attempt
from celery_livelog.records import Line
from celery_livelog.shipper.attempt import AttemptLog
from tests.unit.children import run
from tests.unit.journals import frames_of

#: Runs `task` of the code that follows within a capture in the directory `sys.argv[1]`.
_CAPTURE = """
import logging, os, sys
from pathlib import Path

import structlog

from celery_livelog import spool
from celery_livelog.attempts import Attempt
from celery_livelog.contrib.structlog import LivelogRenderer
from celery_livelog.endings import Ending
from celery_livelog.process import Capture
from celery_livelog.settings import Settings

def capture(task, *, descriptors=False, before=lambda: None, **settings):
    before()
    attempt = Attempt(attempt="00000000000000a1", task_id="a-task", started="2026-01-02T03:04:05+00:00")
    directory = spool.create(sys.argv[1])
    capture = Capture(directory, Settings(spool_dir=sys.argv[1], **settings), one_at_a_time=descriptors)
    writer, token = capture.begin(attempt)
    try:
        task()
    finally:
        capture.end(writer, token, Ending("SUCCESS", 0))
    capture.close()

def configure(factory=None, *more, renderer=None):
    structlog.configure(
        processors=[*more, LivelogRenderer(renderer or structlog.processors.KeyValueRenderer(key_order=["event"]))],
        logger_factory=factory or structlog.PrintLoggerFactory(),
    )
"""


def capture(directory: Path, code: str) -> tuple[list[tuple[str, str | None, str | None, str]], str]:
    """Run code that captures a task; give the lines of its log (stream, level, logger, line) and its stdout.

    What went to descriptors 1 and 2 comes last in the log.
    """
    shown = run(_CAPTURE + code, directory)
    (path,) = directory.glob("*/*.journal")
    begin, *frames = frames_of(path)
    begun = msgspec.json.decode(begin.payload)
    log = AttemptLog(msgspec.convert(begun["attempt"], Attempt))
    records = [record for frame in frames for record in log.feed(frame)]
    found = [(r.stream, r.level, r.logger, r.text) for r in records if isinstance(r, Line)]
    for stream, raw in (begun["raw"] or {}).items():
        found += [(f"raw {stream}", None, None, line) for line in Path(raw).read_text().splitlines()]
        Path(raw).unlink()
    return found, shown


@pytest.mark.parametrize("factory", ["PrintLoggerFactory", "WriteLoggerFactory"])
@pytest.mark.parametrize("descriptors", [False, True])
def test_an_event_is_logged_and_printed_once(tmp_path: Path, factory: str, descriptors: bool) -> None:
    """An event is a record with level and logger; prints around it are what they were; the console has all of it."""
    found, shown = capture(
        tmp_path,
        f"""
def task():
    print("before", end=" ")
    print("it")
    structlog.get_logger().info("hello", number=5)
    print("between")
    structlog.get_logger().warning("two\\nlines")
    print()
    print("after")

configure(structlog.{factory}())
capture(task, descriptors={descriptors})
""",
    )
    assert found == [
        ("stdout", None, None, "before it"),
        ("log", "INFO", "structlog", "hello  number=5"),
        ("stdout", None, None, "between"),
        ("log", "WARNING", "structlog", "two"),
        ("log", "WARNING", "structlog", "lines"),
        ("stdout", None, None, ""),
        ("stdout", None, None, "after"),
    ]
    assert shown == "before it\nevent='hello' number=5\nbetween\nevent='two\\nlines'\n\nafter\n"


def test_levels_and_names(tmp_path: Path) -> None:
    """Levels are those of `logging`; the logger's name is what a processor gave."""
    found, _ = capture(
        tmp_path,
        """
def name(logger, method, event):
    return {**event, "logger": "my.module"}

def fail():
    try:
        raise ValueError("deliberate")
    except ValueError:
        structlog.get_logger().exception("failed", exc_info=False)

def task():
    log = structlog.get_logger()
    log.debug("a"), log.info("b"), log.warn("c"), log.error("d"), log.critical("e"), log.log(30, "f")
    fail()

configure(None, name, structlog.processors.add_log_level, renderer=lambda logger, method, event: event["event"])
capture(task)
""",
    )
    levels = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "WARNING", "ERROR"]
    assert [(level, line) for _, level, _, line in found] == list(zip(levels, [*"abcdef", "failed"], strict=True))
    assert {logger for _, _, logger, _ in found} == {"my.module"}


def test_the_console_renderer(tmp_path: Path) -> None:
    """A traceback is lines of one event."""
    found, shown = capture(
        tmp_path,
        """
def task():
    try:
        raise ValueError("deliberate")
    except ValueError:
        structlog.get_logger().exception("failed")

plain = structlog.dev.plain_traceback
configure(renderer=structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain))
capture(task)
""",
    )
    assert {(stream, level) for stream, level, _, _ in found} == {("log", "ERROR")}
    lines = [line for _, _, _, line in found]
    assert lines[0].startswith("failed")
    assert lines[-1] == "ValueError: deliberate"
    assert shown.splitlines() == lines


def test_key_values_are_fields(tmp_path: Path) -> None:
    """They are data of the record, of any kind, whatever the renderer makes of them; the message is the event."""
    found, _ = capture(
        tmp_path,
        """
class Odd:
    def __repr__(self):
        raise RuntimeError

def task():
    log = structlog.get_logger().bind(user="u 1")
    log.info("paid", amount=12.5, items=["a", {"b": None}], when=float("nan"), odd=Odd())
    log.info("x" * 10, **{"y" * 100_000: "z" * 2_000_000})
    log.info(None)

configure(None, structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"),
    renderer=lambda logger, method, event: str(event.pop("event", None)))
capture(task)
""",
    )
    (_, _, _, paid), (_, _, _, large), (_, _, _, bare) = found
    assert paid == 'paid  user="u 1" amount=12.5 items=["a",{"b":null}] when=nan odd=<Odd>'
    assert large.startswith("xxxxxxxxxx  user=")
    assert len(large) < 25_000
    assert bare == '  user="u 1"'


@pytest.mark.parametrize(
    "last", ["structlog.stdlib.ProcessorFormatter.wrap_for_formatter", "structlog.stdlib.render_to_log_kwargs"]
)
def test_key_values_through_logging(tmp_path: Path, last: str) -> None:
    """The two ways in which structlog leaves the rendering to `logging` need nothing of ours."""
    found, _ = capture(
        tmp_path,
        f"""
def before():
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.StackInfoRenderer(), {last}],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )

def task():
    structlog.get_logger("my.module").info("paid", amount=5)
    try:
        1 / 0
    except ZeroDivisionError:
        structlog.get_logger("my.module").exception("failed", at="here")

capture(task, before=before)
""",
    )
    assert found[0][1:3] == ("INFO", "my.module")
    assert found[0][3].startswith("paid  ")
    assert "amount=5" in found[0][3]
    assert "at=here" in found[1][3]
    assert found[-1][3] == "ZeroDivisionError: division by zero"


def test_extra_of_logging(tmp_path: Path) -> None:
    """What a log record is given as `extra` are its fields. Nobody's code runs for it: objects show their type."""
    found, _ = capture(
        tmp_path,
        """
from decimal import Decimal

class Query:
    def __repr__(self):
        raise SystemExit("asks a database")

    __str__ = __repr__

def task():
    logger = logging.getLogger("mine")
    logger.warning("plain %s", 1)
    logger.warning("paid", extra={"amount": Decimal("1.50"), "query": Query(), "to": {"ids": (1, 2)}})

logging.basicConfig(stream=open(os.devnull, "w"))
capture(task)
""",
    )
    assert [line for _, _, _, line in found] == ["plain 1", 'paid  amount=1.50 query=<Query> to={"ids":[1,2]}']


def test_through_logging(tmp_path: Path) -> None:
    """An event that goes to `logging` is a log record, with our renderer as without it, and is taken once."""
    found, _ = capture(
        tmp_path,
        """
def task():
    structlog.get_logger("my.module").info("plain")
    configure(structlog.stdlib.LoggerFactory(), structlog.stdlib.add_logger_name)
    structlog.get_logger("my.module").error("with ours", number=5)

def before():
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )

capture(task, before=before)
""",
    )
    assert found == [
        ("log", "INFO", "my.module", "event='plain' level='info'"),
        ("log", "ERROR", "my.module", "with ours  number=5"),
    ]


@pytest.mark.parametrize("descriptors", [False, True])
@pytest.mark.parametrize("factory", ["PrintLoggerFactory", "WriteLoggerFactory"])
def test_a_stream_from_before(tmp_path: Path, factory: str, descriptors: bool) -> None:
    """A logger that writes to descriptor 2 itself: where that is captured the log has the event from there only."""
    found, _ = capture(
        tmp_path,
        f"""
configure(structlog.{factory}(sys.stderr))
capture(lambda: structlog.get_logger().info("hello"), descriptors={descriptors})
""",
    )
    as_output, as_event = ("raw stderr", None, None, "event='hello'"), ("log", "INFO", "structlog", "hello")
    assert found == [as_output if descriptors else as_event]


def test_an_event_for_a_file(tmp_path: Path) -> None:
    """An event is in the log wherever it is printed to, and there it is as it was."""
    found, shown = capture(
        tmp_path,
        """
file = open(Path(sys.argv[1]) / "events", "w")
configure(structlog.PrintLoggerFactory(file))
capture(lambda: structlog.get_logger().info("hello"))
""",
    )
    assert found == [("log", "INFO", "structlog", "hello")]
    assert (tmp_path / "events").read_text() == "event='hello'\n"
    assert shown == ""


def test_nothing_else_is_swallowed(tmp_path: Path) -> None:
    """Whoever prints rendered text in a way of its own loses nothing that is not that text."""
    found, shown = capture(
        tmp_path,
        """
import threading
from celery_livelog.capture import Logged

def task():
    sys.stdout.write(Logged("logged"))
    sys.stdout.write(" and more\\n")
    sys.stdout.write(Logged("logged"))
    sys.stderr.write("\\n")
    thread = threading.Thread(target=print)
    thread.start()
    thread.join()
    sys.stdout.write("\\n")
    sys.stdout.write("\\n")
    print(Logged("logged") + " twice", "and", Logged("again"))

capture(task)
""",
    )
    assert [(stream, line) for stream, _, _, line in found] == [
        ("stdout", " and more"),
        ("stderr", ""),
        ("stdout", ""),
        ("stdout", ""),
        ("stdout", " and "),
    ]
    assert shown == "logged and more\nlogged\n\n\nlogged twice and again\n"


def test_outside_a_task(tmp_path: Path) -> None:
    """Outside a task the renderer only renders; so it does without ours for bytes, which are captured as output."""
    found, shown = capture(
        tmp_path,
        """
def task():
    configure(structlog.BytesLoggerFactory(), renderer=lambda logger, method, event: event["event"].encode())
    structlog.get_logger().info("bytes")

configure()
structlog.get_logger().info("early")
capture(task)
""",
    )
    assert found == [("stdout", None, None, "bytes")]
    assert shown == "event='early'\nbytes\n"


def test_without_tee(tmp_path: Path) -> None:
    """With ``livelog_tee = False`` an event is in the log alone."""
    found, shown = capture(
        tmp_path, "configure()\ncapture(lambda: structlog.get_logger().info('hello'), descriptors=True, tee=False)"
    )
    assert found == [("log", "INFO", "structlog", "hello")]
    assert shown == ""
