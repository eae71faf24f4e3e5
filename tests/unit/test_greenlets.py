"""Greenlets that a task starts belong to it, and no others do."""

from __future__ import annotations

from tests.unit.children import run

#: `speak` prints which of two attempts it belongs to; `tell` runs it in every kind of greenlet for each of them.
_TELL = """
from contextvars import copy_context

from celery_livelog import threads
from celery_livelog.writer import current

def speak(kind, pause):
    first = current.get()
    pause(0)
    print(kind, first, first if current.get() is first else "changed")

def tell(ways):
    threads.install()
    threads.install()
    for attempt in (None, "one", "two"):
        token = current.set(attempt)
        for way in ways:
            way()
        current.reset(token)
    threads.uninstall()
    threads.uninstall()
    current.set("three")
    for way in ways:
        way()
"""

_GEVENT = """
import gevent.monkey
gevent.monkey.patch_all()
import threading
import gevent, gevent.pool
"""

_EVENTLET = """
import eventlet
eventlet.monkey_patch()
"""


def told(*kinds: str) -> str:
    """What `tell` prints of these kinds of greenlets; without ours they belong to nothing."""
    return "".join(f"{kind} {attempt} {attempt}\n" for attempt in (None, "one", "two", None) for kind in kinds)


def test_gevent() -> None:
    """Spawned at once or later, alone or in a pool; a thread, which under gevent is a greenlet too."""
    shown = run(
        _GEVENT
        + _TELL
        + """
pause = gevent.sleep

def thread():
    started = threading.Thread(target=speak, args=("thread", pause))
    started.start()
    started.join()

tell([
    lambda: gevent.spawn(speak, "spawn", pause).join(),
    lambda: gevent.spawn_later(0.001, speak, "later", pause).join(),
    lambda: gevent.pool.Pool(2).spawn(speak, "pool", pause).join(),
    lambda: gevent.spawn(lambda: gevent.spawn(speak, "inner", pause).join()).join(),
    thread,
])
"""
    )
    assert shown == told("spawn", "later", "pool", "inner", "thread")


def test_eventlet() -> None:
    """Spawned at once or later, alone or in a pool."""
    shown = run(
        _EVENTLET
        + _TELL
        + """
pause = eventlet.sleep
tell([
    lambda: eventlet.spawn(speak, "spawn", pause).wait(),
    lambda: eventlet.spawn_after(0.001, speak, "later", pause).wait(),
    lambda: eventlet.GreenPool(2).spawn(speak, "pool", pause).wait(),
])
"""
    )
    assert shown == told("spawn", "later", "pool")


def test_a_context_of_its_own_stays() -> None:
    """A greenlet that somebody gave a context keeps what is in it."""
    shown = run(
        """
import contextvars, gevent
from celery_livelog import threads
from celery_livelog.writer import current

other = contextvars.ContextVar("other")
context = contextvars.Context()
context.run(other.set, "kept")
threads.install()
current.set("one")
greenlet = gevent.Greenlet(lambda: print(other.get(), current.get()))
greenlet.gr_context = context
greenlet.start()
greenlet.join()
"""
    )
    assert shown == "kept one\n"
