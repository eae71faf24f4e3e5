"""What happens on the threads of tasks: nothing that waits, and nothing is lost, whatever comes amid a print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from celery_livelog import spool
from celery_livelog.records import Gap, Line, Record
from tests.faults.conftest import StartWorker
from tests.unit.test_process import logs, run, state


@pytest.mark.parametrize(
    ("pool", "shipper"), [("prefork", "process"), ("threads", "process"), ("threads", "thread"), ("solo", "thread")]
)
def test_no_call_that_could_wait(start_worker: StartWorker, pool: str, shipper: str) -> None:
    """On a thread that runs a task, no code of ours connects, resolves a name, opens a database or starts a process."""
    project = start_worker(pool, livelog_shipper=shipper)

    def call(task: str, *args: Any) -> Any:
        sent = project.app.send_task(f"tests.faults.audited.{task}", args)
        return sent.get(timeout=60, propagate=False)

    call("watch")
    for number in range(5):
        call("work", number)
    call("fail")
    told = call("tell")
    assert "subprocess.Popen" in told["all"], "the task's own was not seen"
    by_tasks = [event for thread, event in told["ours"] if thread in told["tasks"]]
    assert by_tasks == []
    if shipper == "thread":
        assert {thread.partition("-")[0] for thread, _ in told["ours"]} == {"livelog"}, "the shipper was not seen"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A new spool directory."""
    return spool.create(str(tmp_path))


def shown(records: list[Record], pattern: str) -> list[str]:
    return [record.line for record in records if isinstance(record, Line) and re.search(pattern, record.line)]


def accounted(records: list[Record], pattern: str = "") -> int:
    """Lines shown and skipped."""
    return len(shown(records, pattern)) + sum(record.skipped for record in records if isinstance(record, Gap))


_ALARM = """
import faulthandler
faulthandler.dump_traceback_later(60, exit=True)
"""


def test_a_time_limit_that_strikes_anywhere(directory: Path) -> None:
    """What a signal handler raises amid a print arrives once, whatever its type; the next line is whole."""
    run(
        _ALARM
        + """
import itertools, signal, time
from billiard.exceptions import SoftTimeLimitExceeded
logging.logMultiprocessing = False  # `LogRecord` itself swallows what strikes while it asks for that
capture()
kinds = itertools.cycle([SoftTimeLimitExceeded, TimeoutError, MemoryError, RecursionError, KeyboardInterrupt])
raised = caught = 0

class Shown:
    def __str__(self):
        return "shown " * 50

def strike(*_):
    global raised
    raised += 1
    raise next(kinds)("struck")

signal.signal(signal.SIGALRM, strike)
with task("struck"):
    for number in range(1500):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.00005 + number % 100 * 0.000005)
            while raised <= number:
                print("interrupted", Shown())
                logging.getLogger("x").warning("logged %s", Shown())
                with stage("stage") as step:
                    step.trace("traced", value=Shown())
        except (SoftTimeLimitExceeded, TimeoutError, MemoryError, RecursionError, KeyboardInterrupt) as error:
            assert error.args == ("struck",)
            caught += 1
        print(f"\\nwhole {number}")
assert (raised, caught) == (1500, 1500), (raised, caught)
kept.close()
""",
        directory,
    )
    records = logs(directory)["struck"]
    assert shown(records, "whole") == [f"whole {number}" for number in range(1500)]
    assert state(records) == "SUCCESS"


def test_printing_and_logging_amid_prints(directory: Path) -> None:
    """Signal handlers and finalizers that print and log wherever the task is: no hang, every line once and whole."""
    run(
        _ALARM
        + """
import gc, signal
capture()
ticks = finalized = 0

def tick(*_):
    global ticks
    ticks += 1
    print(f"tick {ticks}")
    logging.getLogger("ticks").warning("logged tick %d", ticks)
    if ticks < 2000:
        signal.setitimer(signal.ITIMER_REAL, 0.0002)

class Last:
    def __init__(self):
        self.circle = self
    def __del__(self):
        global finalized
        finalized += 1
        print(f"finalized {finalized}")
        logging.getLogger("finalized").warning("logged final %d", finalized)

signal.signal(signal.SIGALRM, tick)
printed = 0
with task("amid"):
    gc.set_threshold(5)
    signal.setitimer(signal.ITIMER_REAL, 0.0002)
    while ticks < 2000:
        Last()
        print("printed", printed)
        logging.getLogger("own").warning("logged own %d", printed)
        printed += 1
    gc.set_threshold(700)
    print(f"in all {printed} {finalized}")
kept.close()
""",
        directory,
    )
    records = logs(directory)["amid"]
    (last,) = shown(records, "in all")
    printed, finalized = map(int, last.split()[2:])
    text = " ".join(shown(records, ""))
    expected = {"(?<!logged )tick ": 2000, "logged tick ": 2000, "printed": printed, "logged own ": printed}
    expected |= {"finalized ": finalized, "logged final ": finalized}
    assert {what: len(re.findall(what, text)) for what in expected} == expected


def test_forks_under_threads_that_print(directory: Path) -> None:
    """A child that was forked while other threads print neither hangs nor loses a line, of its own or of theirs."""
    run(
        _ALARM
        + """
import signal
capture()
stop = threading.Event()
counts = [0] * 3

def talk(number):
    while not stop.is_set():
        print(f"thread {number} {counts[number]}")
        logging.getLogger("t").info("unheard")
        counts[number] += 1

with task("forking"):
    threads = [threading.Thread(target=talk, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for number in range(200):
        pid = os.fork()
        if not pid:
            signal.alarm(10)
            print(f"child {number}")
            logging.getLogger("child").warning("child logs %d", number)
            print("error", file=sys.stderr)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, number
    stop.set()
    for thread in threads:
        thread.join()
    print("in all", sum(counts))
kept.close()
""",
        directory,
    )
    records = logs(directory)["forking"]
    assert sorted(shown(records, "^child [0-9]")) == sorted(f"child {number}" for number in range(200))
    assert len(shown(records, "child logs [0-9]")) == 200
    (last,) = shown(records, "in all")
    assert accounted(records, "^thread ") == int(last.split()[-1])


def test_a_storm_of_threads(directory: Path) -> None:
    """Hundreds of threads at once, each with lines in pieces: none is mixed with another's."""
    run(
        _ALARM
        + """
sys.setswitchinterval(1e-6)
capture()

def talk(number):
    for line in range(20):
        print("thread", number, "line", line, "end")

with task("storm"):
    threads = [threading.Thread(target=talk, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
kept.close()
""",
        directory,
    )
    expected = sorted(f"thread {number} line {line} end" for number in range(200) for line in range(20))
    assert sorted(shown(logs(directory)["storm"], "")) == expected


def test_handlers_that_fail_or_log_themselves(directory: Path) -> None:
    """With the root logger at DEBUG, handlers that raise, log and print: each of the task's records once."""
    run(
        _ALARM
        + """
logging.root.setLevel(logging.DEBUG)

class Talking(logging.Handler):
    deep = 0
    def emit(self, record):
        if self.deep < 3:
            self.deep += 1
            logging.getLogger("inner").debug("inner of %s", record.getMessage())
            print("handled", record.getMessage())
            self.deep -= 1

class Failing(logging.Handler):
    def emit(self, record):
        raise RuntimeError("deliberate")
    def handleError(self, record):
        pass

class Raising(logging.Handler):
    def handle(self, record):
        raise RuntimeError("out of the handler")

capture()
with task("logging"):
    for handler in (Talking(), Failing()):
        logging.root.addHandler(handler)
        handler.emit
        for number in range(5):
            try:
                logging.getLogger("own").debug("record %d of %s", number, type(handler).__name__)
            except RuntimeError:
                pass
        logging.root.removeHandler(handler)
    logging.root.addHandler(Raising())
    try:
        logging.getLogger("own").debug("record 0 of Raising")
    except RuntimeError as error:
        print("as without:", error)
    logging.root.handlers.pop()
kept.close()
""",
        directory,
    )
    records = logs(directory)["logging"]
    for name, count in (("Talking", 5), ("Failing", 5), ("Raising", 1)):
        assert shown(records, f"^record . of {name}") == [f"record {number} of {name}" for number in range(count)]
    assert shown(records, "as without") == ["as without: out of the handler"]


def test_no_stack_left(directory: Path) -> None:
    """A print where no call is left raises what it would without us, or not at all; the next line is whole."""
    run(
        _ALARM
        + """
capture()
def deeper(depth):
    try:
        print("at", depth)
    except RecursionError:
        pass
    deeper(depth + 1)

with task("deep"):
    for _ in range(20):
        try:
            deeper(0)
        except RecursionError:
            pass
        print("\\nwhole")
kept.close()
""",
        directory,
    )
    records = logs(directory)["deep"]
    assert shown(records, "^whole") == ["whole"] * 20
    assert state(records) == "SUCCESS"


def test_no_memory_left(directory: Path) -> None:
    """Where there is room for a text but not for our copy of it, the print succeeds and its lines are counted."""
    run(
        _ALARM
        + """
import resource
capture(tee=False)
with task("large"):
    text = "x" * (300 << 20) + "\\n"
    print("start", end="")
    size = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20), resource.RLIM_INFINITY))
    sys.stdout.write(text)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    del text
    print("after")
kept.close()
""",
        directory,
    )
    records = logs(directory)["large"]
    assert sum(record.skipped for record in records if isinstance(record, Gap)) == 1
    assert shown(records, "after")


def test_an_endless_line_takes_little_memory(directory: Path) -> None:
    """256 MiB without a newline, in pieces of one: the process stays as small as without us."""
    run(
        _ALARM
        + """
import resource
capture(tee=False)
def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
piece = "x" * (1 << 20)
with task("endless"):
    sys.stdout.write(piece)
    before = used()
    for _ in range(256):
        sys.stdout.write(piece)
    assert used() - before < 16 << 10, used() - before
kept.close()
""",
        directory,
    )


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_clock_that_jumps(directory: Path, step: int) -> None:
    """An hour back or forth between lines: their order is that of the prints, none is lost, and room is found again."""
    run(
        _ALARM
        + f"""
import time
from celery_livelog import journal
real, turns = time.time_ns, 0

def jumping():
    global turns
    turns += 1
    return real() + (turns % 2) * {step} * 10**9

time.time_ns = journal.time_ns = jumping
capture(spool_max_bytes=60_000)
with task("jumping"):
    for number in range(2000):
        print("line", number)
    full = kept._journal.full
    for path in sorted(directory.glob("*.journal"))[1:-1]:
        path.unlink()
    until = time.monotonic() + 20
    while kept._journal.full and time.monotonic() < until:
        print("line", number)
    assert full and not kept._journal.full
kept.close()
""",
        directory,
    )
    records = logs(directory)["jumping"]
    numbers = [int(line.split()[1]) for line in shown(records, "^line")]
    assert numbers == sorted(numbers)
