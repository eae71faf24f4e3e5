"""From a question to an answer that can be sent: what goes wrong until then is a refusal, and later breaks it off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace

from celery_livelog.errors import AccessError, StoreError, TokenError, complain
from celery_livelog.web.answers import Streamed, Whole
from celery_livelog.web.refusal import BrokenOff, Refusal, unauthorized

Answer = Whole | Streamed


async def answered(question: Awaitable[Answer]) -> Answer:
    """What is answered to a question; of what comes piece by piece the first one is there.

    :raises Refusal: when it is not answered.
    """
    try:
        answer = await question
        return answer if isinstance(answer, Whole) else await _begun(answer)
    except TokenError as error:
        raise unauthorized(str(error)) from None
    except AccessError:
        raise Refusal(404, "not found") from None
    except StoreError as error:
        complain("a request could not be answered", error)
        raise Refusal(503, "service unavailable") from None


async def _begun(answer: Streamed) -> Streamed:
    first = await anext(answer.pieces, b"")

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        try:
            async for piece in answer.pieces:
                yield piece
        except (AccessError, TokenError) as error:
            raise BrokenOff(str(error)) from error
        except StoreError as error:
            complain("a log could not be read to its end", error)
            raise BrokenOff(str(error)) from error

    # X-Accel-Buffering: or nginx collects a live log before it passes it on.
    return replace(answer, pieces=pieces(), headers={"X-Accel-Buffering": "no", **answer.headers})
