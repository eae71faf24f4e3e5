"""Tasks that time themselves, so that neither the broker nor the result backend counts.

In CPU time, system calls included: what else a busy machine does meanwhile does not count either.
"""

from __future__ import annotations

import logging
import threading
from time import perf_counter, thread_time, time

import redis
from celery import current_app, shared_task

_logger = logging.getLogger("benchmarks")


@shared_task
def print_lines(count: int) -> float:
    """Print lines of one text each; give the CPU microseconds of one."""
    started = thread_time()
    for _ in range(count):
        print("a line as tasks print them")
    return (thread_time() - started) / count * 1e6


@shared_task
def print_parts(count: int) -> float:
    """Print lines of two values each, which `print` hands on in four pieces."""
    started = thread_time()
    for number in range(count):
        print("a line as tasks print them", number)
    return (thread_time() - started) / count * 1e6


@shared_task
def print_slowly(count: int) -> float:
    """Print lines 10 ms apart."""
    taken = 0.0
    for _ in range(count):
        threading.Event().wait(0.01)
        started = thread_time()
        print("a line as tasks print them")
        taken += thread_time() - started
    return taken / count * 1e6


@shared_task
def time_prints(count: int) -> list[float]:
    """Print lines; give the microseconds of each, by the clock."""
    taken = []
    for _ in range(count):
        started = perf_counter()
        print("a line as tasks print them")
        taken.append((perf_counter() - started) * 1e6)
    return taken


@shared_task
def log_lines(count: int) -> float:
    """Log lines."""
    started = thread_time()
    for number in range(count):
        _logger.info("a line as tasks log them %d", number)
    return (thread_time() - started) / count * 1e6


@shared_task
def hold(key: str) -> float:
    """Wait until something is pushed to the list `key`; give the time of that."""
    redis.Redis.from_url(current_app.conf.broker_url, socket_timeout=None).blpop([key], timeout=60)
    return time()


@shared_task(ignore_result=True)
def nothing() -> None:
    """Do nothing."""


@shared_task
def now() -> float:
    """Give the time."""
    return time()
