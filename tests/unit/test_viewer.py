"""A viewer's session: what it may send, what it gets, and that it is sent no more than it can take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_livelog import viewer
from celery_livelog.access.rule import Rule
from celery_livelog.cursors import Cursor
from celery_livelog.errors import StoreError
from celery_livelog.permissions import EVERYTHING, Viewer
from celery_livelog.reader import Reader
from celery_livelog.reader.merge import Batch
from celery_livelog.records import End, Line, Partial, Record
from celery_livelog.viewer import ViewerSession
from celery_livelog.viewer.messages import PROTOCOL

AT = "2026-01-02T03:04:05.000006+00:00"
FIRST, SECOND = "00aa11bb", "22cc33dd"
WINDOW = 64 * 1024
ANYONE = Viewer(via="test", seen=EVERYTHING)


def lines(first: int, last: int, size: int = 10) -> list[Record]:
    return [Line(n=n, timestamp=AT, stream="stdout", line="x" * size) for n in range(first, last + 1)]


class Logs:
    """The one method of a reader that a session uses; a test says what a task's log gives, and when."""

    rule = Rule(None)
    _sources = None

    def __init__(self) -> None:
        self.runs = self  # which nobody asks
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.closed: list[str] = []
        self._batches: dict[str, asyncio.Queue[Batch | Exception | None]] = {}

    def give(self, records: list[Record], attempt: str = FIRST, task_id: str = "a-task") -> None:
        self._queue(task_id).put_nowait(Batch(attempt, 1 if attempt == FIRST else 2, records))

    def end(self, error: Exception | None = None, task_id: str = "a-task") -> None:
        self._queue(task_id).put_nowait(error)

    async def log(self, task_id: str, **options: Any) -> AsyncGenerator[Batch, None]:
        self.asked.append((task_id, options))
        try:
            while (batch := await self._queue(task_id).get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            self.closed.append(task_id)

    def _queue(self, task_id: str) -> asyncio.Queue[Batch | Exception | None]:
        return self._batches.setdefault(task_id, asyncio.Queue())


class Session:
    """A viewer with a transport that keeps what is sent."""

    def __init__(self, viewer: Viewer | None = ANYONE, authenticate: Callable[[str], Viewer] | None = None) -> None:
        self.logs = Logs()
        self.sent: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.closed: list[tuple[int, str]] = []
        self.broken = self.stuck = False
        self.go_on = asyncio.Event()
        self.known = viewer
        self.viewer = ViewerSession(
            cast(Reader, self.logs),
            self._send,
            lambda *code: self.closed.append(code),
            viewer=viewer,
            authenticate=authenticate,
        )

    async def say(self, **command: Any) -> None:
        """Send a command, and let the session do all that it can."""
        self.viewer.receive(json.dumps(command))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(700):
            await asyncio.sleep(0)

    @property
    def records(self) -> list[tuple[str, int]]:
        """Attempt and number of all records that were sent."""
        messages = [said for said in self.sent if said["type"] == "records"]
        return [(said["attempt"], record["n"]) for said in messages for record in said["records"]]

    @property
    def errors(self) -> list[str]:
        return [said["code"] for said in self.sent if said["type"] == "error"]

    async def _send(self, message: bytes) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise ConnectionError("gone")
        if self.stuck:
            await self.go_on.wait()
        self.sent.append(json.loads(message))
        self.sizes.append(len(message))


@asynccontextmanager
async def session(
    viewer: Viewer | None = ANYONE, authenticate: Callable[[str], Viewer] | None = None
) -> AsyncIterator[Session]:
    """A session that was started; it leaves nothing behind when it is stopped."""
    before = asyncio.all_tasks()
    opened = Session(viewer, authenticate)
    opened.viewer.start()
    await opened.settle()
    yield opened
    await opened.viewer.stop()
    await opened.settle()
    assert asyncio.all_tasks() <= before
    assert sorted(opened.logs.closed) == sorted(task_id for task_id, _ in opened.logs.asked)


def run(test: Callable[[Session], Awaitable[None]]) -> None:
    async def within() -> None:
        async with session() as opened:
            await test(opened)

    asyncio.run(asyncio.wait_for(within(), 20))


def test_it_greets() -> None:
    """The first message says which protocol this is."""

    async def test(here: Session) -> None:
        assert here.sent == [{"type": "hello", "protocol": PROTOCOL, "window": WINDOW}]

    run(test)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "bad_message"),
        ("{", "bad_message"),
        ("[]", "bad_message"),
        ("5", "bad_message"),
        ("{}", "bad_message"),
        ('{"type":5}', "bad_message"),
        ('{"type":"subscribe"}', "bad_message"),
        ('{"type":"subscribe","task_id":""}', "bad_message"),
        ('{"type":"subscribe","task_id":5}', "bad_message"),
        ('{"type":"subscribe","task_id":"a-task","tail":-1}', "bad_message"),
        ('{"type":"subscribe","task_id":"a-task","tail":"all"}', "bad_message"),
        ('{"type":"subscribe","task_id":"a-task","after":"elsewhere"}', "bad_cursor"),
        ('{"type":"ack","n":"five"}', "bad_message"),
        ('{"type":"subscribe","task_id":"' + "x" * 70_000 + '"}', "bad_message"),
        ('{"type":"ack","x":' + "[" * 60_000 + "}", "bad_message"),
        (b"\xff\xfe\x00", "bad_message"),
        ('{"type":"\ud83d"}', "bad_message"),
        ('{"type":"shutdown"}', "unknown_command"),
    ],
)
def test_what_is_no_command_is_refused(message: str | bytes, code: str) -> None:
    """The viewer is told what was wrong, nothing is asked of the logs, and the session goes on."""

    async def test(here: Session) -> None:
        here.viewer.receive(message)
        await here.settle()
        assert here.errors == [code]
        assert here.logs.asked == []
        here.logs.give(lines(1, 2))
        await here.say(type="subscribe", task_id="a-task")
        assert here.records == [(FIRST, 1), (FIRST, 2)]
        assert here.closed == []

    run(test)


def test_many_bad_messages_are_all_answered() -> None:
    """One error does not swallow another."""

    async def test(here: Session) -> None:
        for _ in range(10):
            here.viewer.receive("{")
        await here.settle()
        assert here.errors == ["bad_message"] * 10

    run(test)


def test_a_subscription_says_where_to_begin() -> None:
    """Cursor and tail are handed to the reader, which follows."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="one", after=f"{FIRST}:12")
        await here.say(type="subscribe", task_id="two", tail=100, token="unused")
        assert here.logs.asked == [
            ("one", {"after": Cursor(FIRST, 12), "tail": None, "follow": True}),
            ("two", {"after": None, "tail": 100, "follow": True}),
        ]

    run(test)


def test_records_come_as_messages() -> None:
    """A message has the records of one attempt, in order, and not too many."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task")
        here.logs.give([*lines(1, 450), Partial(n=451, timestamp=AT, stream="stdout", line="half")])
        here.logs.give(lines(1, 1), SECOND)
        await here.settle()
        messages = here.sent[1:]
        assert [(said["type"], said["attempt"], said["number"]) for said in messages] == [
            *[("records", FIRST, 1)] * 3,
            ("records", SECOND, 2),
        ]
        assert [len(said["records"]) for said in messages] == [200, 200, 51, 1]
        assert messages[0]["records"][0] == {
            "type": "log_line", "n": 1, "timestamp": AT, "stream": "stdout", "line": "x" * 10,
        }  # fmt: skip
        assert messages[2]["records"][-1]["type"] == "partial"

    run(test)


def test_the_end_closes_normally() -> None:
    """After the last record of the task's last attempt the connection is closed with 1000."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task")
        here.logs.give([*lines(1, 1), End(n=2, timestamp=AT, state="SUCCESS", exit_code=0)])
        await here.settle()
        assert here.closed == []
        here.logs.end()
        await here.settle()
        assert here.closed == [(1000, "")]
        assert here.sent[-1]["records"][-1]["type"] == "log_line_end"

    run(test)


def test_a_store_that_does_not_answer_closes_with_1011() -> None:
    """The viewer learns why, and may come back with its cursor."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task")
        here.logs.give(lines(1, 1))
        here.logs.end(StoreError("Redis does not answer"))
        await here.settle()
        assert here.sent[-1] == {"type": "error", "code": "unavailable", "message": "Redis does not answer"}
        assert here.closed == [(1011, "unavailable")]

    run(test)


def test_pause_and_resume() -> None:
    """A paused viewer gets nothing and misses nothing."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task")
        await here.say(type="pause")
        for n in range(1, 6):
            here.logs.give(lines(n, n))
        await here.settle()
        assert here.records == []
        await here.say(type="resume")
        assert here.records == [(FIRST, n) for n in range(1, 6)]

    run(test)


def test_a_new_subscription_replaces_the_old() -> None:
    """From then on only the new task's records come, and the old log is let go."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="old")
        here.logs.give(lines(1, 1), task_id="old")
        await here.settle()
        await here.say(type="subscribe", task_id="new")
        assert here.logs.closed == ["old"]
        here.logs.give(lines(2, 2), task_id="old")
        here.logs.give(lines(3, 3), task_id="new")
        await here.settle()
        assert here.records == [(FIRST, 1), (FIRST, 3)]
        assert here.closed == []

    run(test)


def test_without_acknowledgements_all_flows() -> None:
    """A viewer that never acknowledges is held back by its transport alone."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task")
        here.logs.give(lines(1, 1000, size=1000))
        await here.settle()
        assert len(here.records) == 1000

    run(test)


def test_the_window_of_one_that_acknowledges() -> None:
    """It has no more than the window before it; each acknowledgement lets as much come as it has dealt with."""

    async def test(here: Session) -> None:
        await here.say(type="ack", n=0)
        await here.say(type="subscribe", task_id="a-task")
        for n in range(1, 301):
            here.logs.give(lines(n, n, size=1000))
        await here.settle()
        first = len(here.records)
        assert WINDOW < sum(here.sizes[1:]) < WINDOW + 2000
        await here.say(type="ack", n=first // 2, attempt=FIRST)
        assert abs(len(here.records) - first * 3 // 2) <= 2
        await here.say(type="ack", n=len(here.records), attempt=FIRST)
        await here.say(type="ack", n=len(here.records), attempt=FIRST)
        assert len(here.records) > 2.4 * first
        for _ in range(5):
            await here.say(type="ack", n=len(here.records))
        assert here.records == [(FIRST, n) for n in range(1, 301)]

    run(test)


def test_a_message_is_dealt_with_when_its_last_record_is() -> None:
    """An acknowledgement in the middle of a message does not make room for another."""

    async def test(here: Session) -> None:
        await here.say(type="ack", n=0)
        await here.say(type="subscribe", task_id="a-task")
        for first in (1, 41, 81):
            here.logs.give(lines(first, first + 39, size=800))
        await here.settle()
        await here.say(type="ack", n=39, attempt=FIRST)
        assert len(here.records) == 80
        await here.say(type="ack", n=40, attempt=FIRST)
        assert len(here.records) == 120

    run(test)


def test_half_lines_do_not_escape_the_window() -> None:
    """A task that draws a bar with each line is held back like any other."""

    async def test(here: Session) -> None:
        await here.say(type="ack", n=0)
        await here.say(type="subscribe", task_id="a-task")
        for n in range(1, 301):
            here.logs.give([*lines(n, n, size=1000), Partial(n=n + 1, timestamp=AT, stream="stdout", line="bar")])
        await here.settle()
        assert sum(here.sizes[1:]) < WINDOW + 2000

    run(test)


def test_acknowledgements_of_another_attempt() -> None:
    """An attempt's acknowledgement covers what came before it, and nothing of an attempt that it does not name."""

    async def test(here: Session) -> None:
        await here.say(type="ack", n=0)
        await here.say(type="subscribe", task_id="a-task")
        here.logs.give(lines(1, 30, size=1000))
        for n in range(1, 301):
            here.logs.give(lines(n, n, size=1000), SECOND)
        await here.settle()
        held = len(here.records)
        assert held < 70
        for n in (30, 31, 500):
            await here.say(type="ack", n=n, attempt=FIRST)
        after_first = len(here.records)
        assert held < after_first <= held + 32
        await here.say(type="ack", n=500, attempt="99ee88dd")
        assert len(here.records) == after_first
        for _ in range(10):
            await here.say(type="ack", n=here.records[-1][1], attempt=SECOND)
        assert len(here.records) == 330

    run(test)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["give", "ack", "pause", "resume"]), st.integers(1, 40)), max_size=30))
def test_never_more_than_the_window(steps: list[tuple[str, int]]) -> None:
    """Whatever the order of output, acknowledgements and pauses: the bound holds, all arrives once, in order."""

    async def test(here: Session) -> None:
        await here.say(type="ack", n=0)
        await here.say(type="subscribe", task_id="a-task")
        given_lines = acknowledged = 0
        for step, count in steps:
            if step == "give":
                here.logs.give(lines(given_lines + 1, given_lines + count, size=1000))
                given_lines += count
            elif step == "ack":
                acknowledged = max(acknowledged, len(here.records) - count)
                await here.say(type="ack", n=acknowledged, attempt=FIRST)
            else:
                await here.say(type=step)
            await here.settle()
            whole = [size for said, size in zip(here.sent, here.sizes, strict=True) if said["type"] == "records"]
            through = [said["records"][-1]["n"] for said in here.sent if said["type"] == "records"]
            before_it = [size for size, n in zip(whole, through, strict=True) if n > acknowledged]
            assert sum(before_it[:-1]) <= WINDOW
        await here.say(type="resume")
        while len(here.records) < given_lines:
            before = len(here.records)
            await here.say(type="ack", n=len(here.records), attempt=FIRST)
            assert len(here.records) > before
        assert here.records == [(FIRST, n) for n in range(1, given_lines + 1)]

    run(test)


def test_a_connection_that_breaks(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be sent ends quietly: the log is let go, and stopping raises nothing."""

    async def test(here: Session) -> None:
        await here.say(type="subscribe", task_id="a-task")
        here.broken = True
        here.logs.give(lines(1, 1))
        await here.settle()
        assert here.logs.closed == ["a-task"]
        assert here.closed == []

    run(test)
    assert caplog.records == []


def test_the_connection_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is to be said, a heartbeat is; paused or not."""
    monkeypatch.setattr(viewer, "_HEARTBEAT_SECONDS", 0.0)

    async def test(here: Session) -> None:
        await here.say(type="pause")
        assert [said["type"] for said in here.sent[1:4]] == ["heartbeat"] * 3

    run(test)
