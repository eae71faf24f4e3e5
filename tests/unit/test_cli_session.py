"""How a command ends: with the exit code of its work, or when somebody does not want to wait for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import click
import pytest

from celery_livelog.access.rule import Rule
from celery_livelog.cli.session import run
from celery_livelog.errors import LivelogError
from celery_livelog.reader import Reader


class IdleReader:
    """Has nothing to read."""

    rule = Rule(None)

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_livelog.cli.session.Reader", lambda *_: IdleReader())


def exit_code(work: Callable[[Reader], Awaitable[int]]) -> object:
    with pytest.raises(SystemExit) as left:
        run(SimpleNamespace(app=SimpleNamespace(conf={})), work)
    return left.value.code


def test_the_work_gives_the_exit_code() -> None:
    async def work(reader: Reader) -> int:
        return 137

    assert exit_code(work) == 137


def test_ctrl_c_ends_work_that_waits() -> None:
    async def work(reader: Reader) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)
        return 0

    assert exit_code(work) == 130


def test_ctrl_c_ends_work_that_loses_a_cancellation() -> None:
    """As redis-py does before Python 3.12, when an answer comes at the same moment."""

    async def work(reader: Reader) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)
        return 0

    assert exit_code(work) == 130


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LivelogError("Redis does not answer"), "Redis does not answer"),
        (OSError("no\n  such place"), "OSError: no such place"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("wrong\n(Background on this error at: https://…)"), "ValueError: wrong"),
    ],
)
def test_an_error_is_one_line(error: Exception, message: str) -> None:
    async def work(reader: Reader) -> int:
        raise error

    with pytest.raises(click.ClickException) as raised:
        run(SimpleNamespace(app=SimpleNamespace(conf={})), work)
    assert raised.value.message == message
