"""A user's Celery project: tasks that write in every way a task can. What it knows of livelog is what users import.

Tests copy this file beside a ``settings.json`` and run ``celery -A proj`` there.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis
from celery import Celery, Task
from celery.exceptions import Ignore, Reject
from celery.signals import setup_logging
from celery.utils.log import get_task_logger
from tqdm import tqdm

import celery_livelog

app = Celery("proj")
app.conf.update(json.loads(Path(__file__).with_name("settings.json").read_text()))

task_logger = get_task_logger(__name__)

celery_livelog.mask(os.environ.get("TEST_MASKED_AT_START", ""))

if app.conf.get("test_setup_logging"):
    setup_logging.connect(lambda **_: logging.basicConfig(level=logging.INFO), weak=False)


# -- one way of writing each ------------------------------------------------------------------------------------------


@app.task
def print_lines(count: int = 3, word: str = "line") -> int:
    for number in range(1, count + 1):
        print(word, number)
    return count


@app.task
def write_partial() -> None:
    """One line in three writes, one written with `print`'s `end`, and a last one that nobody ends."""
    for part in ("one ", "whole ", "line\n"):
        sys.stdout.write(part)
        sys.stdout.flush()
    print("two", end=" ")
    print("halves")
    sys.stdout.write("no newline")


@app.task
def write_stderr() -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr)


@app.task
def warn() -> None:
    warnings.warn("careful with that", stacklevel=1)


@app.task
def log() -> None:
    logging.getLogger().warning("from the root logger")
    logging.getLogger("some.library").error("from a library")
    task_logger.info("from the task logger")
    task_logger.debug("too quiet for the worker's level")


@app.task
def log_traceback() -> None:
    try:
        raise ValueError("deliberate")
    except ValueError:
        task_logger.exception("it failed")


@app.task
def log_with_own_handler() -> None:
    """A library sets up logging to stderr in the middle of a task, as scripts do."""
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        logging.getLogger("some.script").warning("from a script")
    finally:
        logging.getLogger().removeHandler(handler)


@app.task
def write_descriptors() -> None:
    os.write(1, b"raw one\n")
    os.write(2, b"raw two\n")


@app.task
def write_bytes(hexadecimal: str, pieces: int = 1) -> None:
    """Write any bytes to descriptor 1, in `pieces` writes."""
    data = bytes.fromhex(hexadecimal)
    size = -(-len(data) // pieces)
    for start in range(0, len(data), size):
        os.write(1, data[start : start + size])


@app.task
def long_line(size: int) -> None:
    print("x" * size)


@app.task
def run_subprocess() -> None:
    subprocess.run([sys.executable, "-c", "import os; os.write(1, b'child out\\n'); os.write(2, b'child err\\n')"])


@app.task
def run_subprocess_to_stdout() -> None:
    print("before the child")
    subprocess.run(["echo", "child"], stdout=sys.stdout, check=True)
    print("after the child")


@app.task
def run_system() -> None:
    os.system("echo from a shell")


@app.task
def print_in_threads() -> None:
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(print, "from an executor").result()


@app.task
def print_in_asyncio() -> None:
    async def speak(word: str) -> None:
        await asyncio.sleep(0)
        print("from", word)

    async def main() -> None:
        await asyncio.gather(speak("a coroutine"), asyncio.create_task(speak("an asyncio task")))
        await asyncio.to_thread(print, "from asyncio's thread")

    asyncio.run(main())


@app.task
def progress_bar(total: int = 100) -> None:
    print("before the bar")
    for _ in tqdm(range(total), desc="Work", mininterval=0):
        pass
    print("after the bar")


@app.task
def number_lines(count: int = 100_000) -> None:
    for number in range(1, count + 1):
        print(number)


@app.task
def noisy_c(mebibytes: int = 8) -> None:
    """C code that writes to descriptor 1 and keeps the GIL while it does."""
    data = b"".join(b"%062d \n" % number for number in range(mebibytes << 14))
    write = ctypes.PyDLL(None).write
    sent = 0
    while sent < len(data):
        sent += write(1, data[sent:], len(data) - sent)


# -- one way of ending each -------------------------------------------------------------------------------------------


@app.task(livelog=False)
def unlogged() -> None:
    print("nobody reads this")


@app.task
def silent() -> str:
    return "nothing to say"


@app.task
def fail() -> None:
    print("about to fail")
    raise RuntimeError("deliberate")


@app.task(bind=True, max_retries=3)
def retry_once(self: Task) -> None:
    print("try", self.request.retries + 1)
    if self.request.retries == 0:
        raise self.retry(countdown=0)


@app.task
def ignore() -> None:
    print("about to be ignored")
    raise Ignore


@app.task(acks_late=True)
def reject() -> None:
    print("about to be rejected")
    raise Reject("deliberate", requeue=False)


@app.task(acks_late=True, bind=True)
def reject_once(self: Task) -> None:
    """Reject the message once, to have it delivered again."""
    print("redelivered" if self.request.delivery_info.get("redelivered") else "about to be rejected")
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("not now", requeue=True)


@app.task(bind=True)
def replace(self: Task) -> None:
    print("about to be replaced")
    raise self.replace(print_lines.s(2, "replacement"))


def _let_it_be_known() -> None:
    """Give the main process time to learn that the task has begun: else it has it run once more by another process."""
    time.sleep(0.5)


@app.task
def exit_process(code: int = 3) -> None:
    print("about to exit")
    _let_it_be_known()
    os._exit(code)


@app.task
def exit_politely(code: int = 3) -> None:
    print("about to exit")
    _let_it_be_known()
    sys.exit(code)


@app.task
def kill_process(number: int = signal.SIGKILL) -> None:
    print("about to be killed")
    _let_it_be_known()
    os.kill(os.getpid(), number)
    time.sleep(60)


@app.task(acks_late=True, reject_on_worker_lost=True, bind=True)
def kill_process_once(self: Task) -> None:
    """Be killed, and delivered again."""
    print("redelivered" if self.request.delivery_info.get("redelivered") else "about to be killed")
    if not self.request.delivery_info.get("redelivered"):
        _let_it_be_known()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)


@app.task
def take_long(key: str = "") -> None:
    """Print, say so on the list `key`, and take longer than any test waits; the signals of limits come through."""
    print("taking long")
    sys.stdout.flush()
    if key:
        _redis().rpush(key, os.getpid())
    time.sleep(60)


@app.task
def print_and_take_long(key: str, count: int) -> None:
    """The same, after so many lines and one."""
    for number in range(1, count + 1):
        print(number)
    take_long(key)


# -- tasks that others are a part of ----------------------------------------------------------------------------------


@app.task
def nested() -> str:
    """Run another task within this one; the id of that one is the result."""
    print("outer before")
    inner = print_lines.apply(args=(2, "inner"))
    print("outer after")
    return str(inner.id)


@app.task(bind=True)
def call_next(self: Task, remaining: int) -> str | None:
    """Send the next of a row of tasks."""
    print(remaining, "to go")
    return str(call_next.delay(remaining - 1).id) if remaining else None


@app.task
def staged(fails: bool = False) -> None:
    """Two stages; the second one fails if asked to."""
    with celery_livelog.stage("Fetch", pending=3) as s:
        for number in (1, 2, 3):
            print("item", number)
            s.advance(message=f"item {number}")
        s.result({"credits": 1.5, "items": ["ä", None]})
    with celery_livelog.stage("Compile"):
        print("compiling")
        if fails:
            raise ValueError("no compiler")


@app.task
def nightly(fails: bool = False) -> str:
    """Begin a run, send a task in it, and go through stages; the run's id is the result."""
    with celery_livelog.run(account="a1", site="s7", name="nightly", user_id=7) as r:
        print_lines.delay(2, "sent along")
        staged.run(fails)
    return str(r.run_id)


@app.task
def stay_in_stage(key: str) -> None:
    """Stay in the second of two stages, and say so on the list `key`."""
    with celery_livelog.stage("Fetch"):
        print("fetching")
    with celery_livelog.stage("Compile", pending=9) as s:
        s.progress(4, 9, "half way")
        print("compiling")
        take_long.run(key)


# -- tasks that wait for the test -------------------------------------------------------------------------------------


def _redis() -> redis.Redis:
    return redis.Redis.from_url(app.conf.broker_url, socket_timeout=None)  # the default would end a wait after 5 s


@app.task
def hold(key: str) -> None:
    """Print, wait until the test pushes to the list `key`, print."""
    print("holding")
    sys.stdout.flush()
    _redis().blpop([key], timeout=60)
    print("released")


@app.task
def print_in_turns(key: str, count: int, turns: int = 2) -> None:
    """Print `count` numbered lines in each turn; between turns wait until the test pushes to the list `key`."""
    for turn in range(turns):
        if turn:
            _redis().blpop([key], timeout=60)
        for number in range(turn * count + 1, (turn + 1) * count + 1):
            print(number)


@app.task
def prompt(key: str) -> None:
    """Show the beginning of a line, and its rest when the test pushes to the list `key`."""
    print("name? ", end="", flush=True)
    _redis().blpop([key], timeout=60)
    print("Celery")


@app.task
def speak_in_turn(me: str, other: str, rounds: int = 20) -> None:
    """Print a line in every way, then let the other one of a pair of tasks do so: both run all the time."""
    client = _redis()
    for number in range(1, rounds + 1):
        print(f"{me} print {number}")
        print(f"{me} stderr {number}", file=sys.stderr)
        task_logger.warning("%s log %d", me, number)
        thread = threading.Thread(target=print, args=(f"{me} thread {number}",))
        thread.start()
        thread.join()
        client.rpush(f"turn-of-{other}", number)
        client.blpop([f"turn-of-{me}"], timeout=60)


@app.task
def leave_orphan(key: str) -> int:
    """Leave a process that writes after this task's end, when the test pushes to the list `key`; return its id."""
    code = (
        "import os, redis, sys; os.write(1, b'orphan before\\n');"
        "redis.Redis.from_url(sys.argv[1], socket_timeout=None).blpop([sys.argv[2]], timeout=60);"
        "os.write(1, b'orphan after\\n')"
    )
    orphan = subprocess.Popen([sys.executable, "-c", code, app.conf.broker_url, key], start_new_session=True)
    return orphan.pid


@app.task
def print_times(count: int, interval: float) -> None:
    """Print the time of each print in nanoseconds, `interval` seconds apart."""
    for _ in range(count):
        print(time.time_ns())
        time.sleep(interval)


# -- secrets ----------------------------------------------------------------------------------------------------------


def _secrets() -> list[str]:
    """What no log may show; see ``test_redaction.py``. Each is known as a secret in another way."""
    return os.environ["TEST_SECRETS"].split("|")


@app.task(ignore_result=True, livelog_redact=[r"pin=(?P<secret>\d+)"])
def leak(fails: bool = False) -> None:
    """Write secrets in every way there is; the last one is only masked here."""
    celery_livelog.mask(_secrets()[-1])
    said = " and ".join(_secrets()) + " and pin=271828"
    print("printed", said, repr([said]), json.dumps({"it's": said}))
    sys.stdout.write(said[:20])
    sys.stdout.flush()
    time.sleep(0.4)  # a live view shows the unfinished line meanwhile
    print(said[20:])
    task_logger.warning("logged %s", said)
    os.write(2, b"raw " + said.encode() + b"\n")
    subprocess.run(["echo", "echoed", said], check=True)
    with celery_livelog.stage(said) as s:
        s.advance(message=said)
        s.trace(said, **{said: [{"deep": said}]})
        s.result({said: said})
    print("done")
    if fails:
        with celery_livelog.stage("fails"):
            raise ValueError(said)


@app.task(ignore_result=True)
def hold_masked(key: str) -> None:
    """Print a secret that only this code knows, and again when the test pushes to the list `key`."""
    secret = f"made-up-{key[::-1]}"
    celery_livelog.mask(secret)
    print("holding", secret)
    _redis().blpop([key], timeout=60)
    print("released", secret, os.environ["SERVICE_TOKEN"])


@app.task(livelog_redact=["("])
def bad_pattern() -> None:
    print("something")


# -- tasks that are broken off ---------------------------------------------------------------------------------------


@app.task
def chatter(notes: str, pause: float, fail: bool = False) -> int:
    """Print numbered lines with checksums, `pause` seconds after each 20, until the file `notes` says to stop.

    The file is mapped and notes how many are printed: that outlives a SIGKILL. `tests.faults.chatter` knows its form.
    """
    with open(notes, "r+b") as file:
        page = mmap.mmap(file.fileno(), 0)
    page[8:12] = os.getpid().to_bytes(4, "little")
    number = 0
    while not page[16]:
        number += 1
        print(f"{number} {zlib.crc32(str(number).encode()):08x} {'x' * (number % 60)}")
        page[0:8] = number.to_bytes(8, "little")
        if number % 20 == 0 and pause:
            time.sleep(pause)
    if fail:
        raise RuntimeError("deliberate")
    return 42


@app.task
def print_and_work(count: int) -> float:
    """Print `count` lines with some work before each; give the seconds that this took."""
    began = time.perf_counter()
    for number in range(count):
        print(number, zlib.crc32(bytes(100_000)))
    return time.perf_counter() - began


# -- stages ------------------------------------------------------------------------------------------------------------


@app.task
@celery_livelog.stage("Whole")
def pipeline() -> None:
    """Stages at the same time, in threads and on an event loop, with lines in each of them."""

    def in_thread(name: str) -> None:
        with celery_livelog.stage(name):
            together.wait()
            print(name, "prints")
            task_logger.warning("%s logs", name, extra={"of": name})

    async def on_loop(name: str) -> None:
        with celery_livelog.stage(name):
            await asyncio.sleep(0.01)
            print(name, "prints")

    async def both() -> None:
        await asyncio.gather(on_loop("three"), on_loop("four"))

    together = threading.Barrier(2, timeout=10)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(in_thread, ["one", "two"]))
    asyncio.run(both())
    with celery_livelog.stage("five"):
        subprocess.run(["echo", "five prints"], check=True)
    celery_livelog.trace("done", ok=True)


@app.task
def advance_and_hold(key: str, count: int) -> None:
    """Say `count` times at once that more is done, then wait until the test pushes to the list `key`."""
    with celery_livelog.stage("Count", pending=count) as step:
        for _ in range(count):
            step.advance()
        _redis().blpop([key], timeout=60)


@app.task
def run_script(script: str) -> None:
    """A script of somebody's CI, with a line of the task's own before and after."""
    print("::group::Prepare")
    subprocess.run(["sh", "-c", script], check=True)
    print("after it")


# -- runs -------------------------------------------------------------------------------------------------------------


@app.task
def stage_by_stage(word: str, key: str = "") -> None:
    """Three stages, the last of which waits until the test pushes to the list `key`."""
    with celery_livelog.stage("Fetch", pending=2) as fetching:
        for number in (1, 2):
            print(word, number)
            fetching.advance(message=f"{word} {number}")
    with celery_livelog.stage(f"<b>{word}</b>") as storing:
        storing.result({"word": word})
    with celery_livelog.stage("Wait"):
        if key:
            _redis().blpop([key], timeout=60)
