"""Tasks of a worker that notes who opens connections, databases and processes. Of livelog it knows the name."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any

from celery import shared_task

_WATCHED = (
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "sqlite3.connect",
    "subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "urllib.Request",
)  # fmt: skip
_seen: list[tuple[str, str, bool]] = []
_threads: set[str] = set()


def _note(event: str, args: tuple[Any, ...]) -> None:
    if event in _WATCHED:
        frame: FrameType | None = sys._getframe()
        ours = False
        while frame is not None:
            ours = ours or "celery_livelog" in frame.f_code.co_filename
            frame = frame.f_back
        _seen.append((event, threading.current_thread().name, ours))


@shared_task
def watch() -> None:
    """Note from here on."""
    sys.addaudithook(_note)


@shared_task
def work(number: int) -> None:
    """Write in many ways; do some things that are noted, too."""
    _threads.add(threading.current_thread().name)
    for line in range(200):
        print("line", number, line)
        print("to stderr", file=sys.stderr)
        logging.getLogger("work").warning("logged %d", line)
    os.write(1, b"raw\n")
    subprocess.run(["true"], check=True)
    thread = threading.Thread(target=print, args=("from a thread",), name=f"of task {number}")
    thread.start()
    thread.join()
    _threads.add(thread.name)


@shared_task
def fail() -> None:
    work.run(-1)
    raise ValueError("deliberate")


@shared_task
def tell() -> dict[str, Any]:
    """What was noted: all events, and those of ours by thread."""
    return {
        "all": sorted({event for event, _, _ in _seen}),
        "ours": sorted({(thread, event) for event, thread, ours in _seen if ours}),
        "tasks": sorted(_threads),
    }


@shared_task
def say(text: str) -> str:
    """Print a text."""
    print(text)
    return text


@shared_task
def draw(updates: int, seconds: float) -> float:
    """Draw over one line again and again, evenly over some seconds; give how long it took."""
    started = time.monotonic()
    for number in range(updates):
        sys.stdout.write(f"\r{number} of {updates}")
        if number % 100 == 0:
            time.sleep(max(0.0, started + seconds * number / updates - time.monotonic()))
    print()
    return time.monotonic() - started


@shared_task
def flood(lines: int) -> int:
    """Print as fast as can be, a thousand lines at once."""
    text = "x\n" * 1000
    for _ in range(lines // 1000):
        sys.stdout.write(text)
    return lines
