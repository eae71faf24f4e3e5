"""From a question to an answer: what is refused, and what is broken off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from celery_livelog.errors import AccessError, LivelogError, StoreError, TokenError
from celery_livelog.web.answering import Answer, answered
from celery_livelog.web.answers import Streamed, Whole
from celery_livelog.web.refusal import BrokenOff, Refusal

FAILURES = [
    (TokenError("over"), 401),
    (AccessError("no more"), 404),
    (StoreError("away"), 503),
    (Refusal(400, "x"), 400),
]


async def pieces(*given: bytes | LivelogError) -> AsyncIterator[bytes]:
    for piece in given:
        if isinstance(piece, LivelogError):
            raise piece
        yield piece


async def question(answer: Answer | LivelogError) -> Answer:
    if isinstance(answer, LivelogError):
        raise answer
    return answer


async def told(answer: Answer | LivelogError) -> list[bytes | str]:
    """What comes of it, piece by piece, and then why no more does."""
    said: list[bytes | str] = []
    found = await answered(question(answer))
    if isinstance(found, Whole):
        return [found.body]
    assert found.headers["X-Accel-Buffering"] == "no"
    try:
        async for piece in found.pieces:
            said.append(piece)
    except BrokenOff as why:
        said.append(str(why))
    return said


def test_what_is_answered() -> None:
    """All of it, also where there is nothing."""
    assert asyncio.run(told(Whole("text/plain", b"all"))) == [b"all"]
    assert asyncio.run(told(Streamed("text/plain", pieces(b"a", b"b")))) == [b"a", b"b"]
    assert asyncio.run(told(Streamed("text/plain", pieces()))) == [b""]


@pytest.mark.parametrize(("failure", "status"), FAILURES)
def test_what_is_refused(failure: LivelogError, status: int) -> None:
    """As long as nothing was sent the status says what is wrong, whether the question or its first piece failed."""
    for answer in (failure, Streamed("text/plain", pieces(failure))):
        with pytest.raises(Refusal) as refused:
            asyncio.run(told(answer))
        assert refused.value.status == status


@pytest.mark.parametrize("failure", [failure for failure, status in FAILURES if status != 400])
def test_what_is_broken_off(failure: LivelogError) -> None:
    """Afterwards the connection has to be cut, or a part would pass for the whole."""
    assert asyncio.run(told(Streamed("text/plain", pieces(b"a", failure, b"b")))) == [b"a", str(failure)]
