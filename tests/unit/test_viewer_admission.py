"""Who is let in to a viewer's session, for how long, and what one is told that is let go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from celery_livelog import viewer as room
from celery_livelog.cursors import Cursor
from celery_livelog.errors import TokenError
from celery_livelog.permissions import EVERYTHING, Viewer
from tests.nodes.waiting import wait_for
from tests.unit.test_viewer import ANYONE, FIRST, Session, lines, session


def holder(token: str) -> Viewer:
    """Whose a token is: some are over soon, some are none at all."""
    if token == "broken":
        raise RuntimeError("no key could be read")
    if not token.startswith("good"):
        raise TokenError("the token is not valid")
    expires = time.time() + 0.6 if token == "good for now" else time.time() + 3600
    return Viewer(via="token", seen=EVERYTHING, expires=expires)


def run(
    test: Callable[[Session], Awaitable[None]],
    viewer: Viewer | None = None,
    authenticate: Callable[[str], Viewer] | None = holder,
) -> None:
    async def within() -> None:
        async with session(viewer, authenticate) as opened:
            await test(opened)

    asyncio.run(asyncio.wait_for(within(), 20))


async def closed(here: Session) -> None:
    await asyncio.to_thread(wait_for, lambda: here.closed)
    await here.settle()


def test_a_token_lets_in() -> None:
    """It comes with the subscription, and with each further one it may be another."""

    async def test(here: Session) -> None:
        here.logs.give(lines(1, 1))
        await here.say(type="subscribe", task_id="a-task", token="good")
        assert len(here.records) == 1
        await here.say(type="subscribe", task_id="a-task", token="bad")
        await closed(here)
        assert here.closed == [(4401, "unauthorized")]

    run(test)


@pytest.mark.parametrize("message", [{}, {"token": ""}, {"token": "bad"}, {"token": "broken"}])
def test_without_a_good_token_nothing_is_read(message: dict[str, str]) -> None:
    """Missing, wrong, or such that nobody can tell: one answer for all, before anything is asked of the logs."""

    async def test(here: Session) -> None:
        here.logs.give(lines(1, 1))
        await here.say(type="subscribe", task_id="a-task", **message)
        await closed(here)
        await here.say(type="subscribe", task_id="a-task", token="good")
        assert (here.errors, here.closed, here.records) == (["unauthorized"], [(4401, "unauthorized")], [])
        assert here.sent[-1]["message"] == "expected a token that is valid"
        assert here.logs.asked == []

    run(test)


def test_where_tokens_are_not_looked_at() -> None:
    """Who is known by other means is let in whatever token comes; who is not, is not."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task", token="whatever")
        assert len(here.logs.asked) == (here.known is not None)

    run(test, ANYONE, None)
    run(test, None, None)


def test_who_never_says_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not kept waiting for long, whatever else it says."""
    monkeypatch.setattr(room, "_UNKNOWN_SECONDS", 0.1)

    async def test(here: Session) -> None:
        await here.say(type="ack", n=0)
        await here.say(type="pause")
        await closed(here)
        assert here.closed == [(4401, "unauthorized")]

    run(test)


def test_a_token_that_ends_while_the_connection_is_open() -> None:
    """From then on nothing more is shown."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task", token="good for now")
        here.logs.give(lines(1, 1))
        await here.settle()
        assert len(here.records) == 1
        await closed(here)
        here.logs.give(lines(2, 2))
        await here.settle()
        assert len(here.records) == 1
        assert (here.errors, here.closed) == (["unauthorized"], [(4401, "unauthorized")])

    run(test)


def test_a_stranger_has_one_try() -> None:
    """A message that is none, from nobody known, ends it; one who is known has some."""

    async def test(here: Session) -> None:
        for _ in range(30):
            here.viewer.receive("{")
        await closed(here)
        assert here.closed == [(4400, "bad_message")]
        assert len(here.errors) == (1 if here.known is None else 11)

    run(test, None)
    run(test, ANYONE)


def test_a_flood() -> None:
    """Who says much more than it is told is let go; acknowledging all that comes is not too much."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task")
        for n in range(1, 301):
            here.logs.give(lines(n, n))
            await here.say(type="ack", n=n)
        assert (len(here.records), here.closed) == (300, [])
        for _ in range(200):
            here.viewer.receive('{"type":"ack","n":1}')
        await closed(here)
        assert here.closed == [(4429, "too_many")]

    run(test, ANYONE)


@pytest.mark.parametrize("how", ["drains nothing", "acknowledges nothing", "is paused"])
def test_who_takes_nothing(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Counts as gone after a while, unless it is paused; what cannot be sent does not keep it."""
    monkeypatch.setattr(room, "_STALLED_SECONDS", 0.3)
    monkeypatch.setattr(room, "_HEARTBEAT_SECONDS", 0.03)
    monkeypatch.setattr(room, "_FAREWELL_SECONDS", 0.01)

    async def test(here: Session) -> None:
        here.stuck = how == "drains nothing"
        if how == "acknowledges nothing":
            await here.say(type="ack", n=0)
        await here.say(type="subscribe", task_id="a-task")
        if how == "is paused":
            await here.say(type="pause")
        here.logs.give(lines(1, 300, size=1000))
        if how == "is paused":
            await asyncio.to_thread(wait_for, lambda: len(here.sent) > 10)  # heartbeats
            await here.say(type="resume")
            assert (len(here.records), here.closed) == (300, [])
        else:
            await closed(here)
            assert here.closed == [(4408, "timed_out")]

    run(test, ANYONE)


@pytest.mark.parametrize("how", ["drains nothing", "is paused"])
def test_who_is_slow_keeps_no_log_open(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """What it reads from is let go of; once it takes what was on its way, it goes on behind that."""
    monkeypatch.setattr(room, "_SLOW_SECONDS", 0.03)
    monkeypatch.setattr(room, "_HEARTBEAT_SECONDS", 0.02)

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task", tail=5)
        here.logs.give(lines(1, 3))
        await here.settle()
        if how == "is paused":
            await here.say(type="pause")
        here.stuck = how == "drains nothing"
        here.logs.give(lines(4, 6))
        await asyncio.to_thread(wait_for, lambda: here.logs.closed)
        here.stuck = False
        here.go_on.set()
        await here.say(type="resume")
        here.logs.give(lines(7, 8))
        await here.settle()
        assert here.records == [(FIRST, n) for n in range(1, 9)]
        assert [options["after"] for _, options in here.logs.asked] == [None, Cursor(FIRST, 6)]
        assert [options["tail"] for _, options in here.logs.asked] == [5, None]
        assert here.closed == []

    run(test, ANYONE)


def test_a_log_that_breaks(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever goes wrong while a log is read: the viewer is told to come again, and nothing of what it was."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task")
        here.logs.end(KeyError("of the inside"))
        await closed(here)
        assert here.closed == [(1011, "unavailable")]
        assert here.sent[-1]["message"] == "the log could not be read"

    run(test, ANYONE)
    assert "of the inside" in capfd.readouterr().err
