"""Messages as WebSocket frames: what another implementation reads of them."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from celery_livelog.web.frames import frame


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_frame_of_any_length(length: int) -> None:
    """It is one whole message of text, and nothing is left over."""
    message = b"x" * length
    stream = StreamReader()
    stream.feed_data(frame(message))
    stream.feed_eof()
    with pytest.raises(StopIteration) as read:
        next(Frame.parse(stream.read_exact, mask=False))
    assert (read.value.value.opcode, read.value.value.data, read.value.value.fin) == (Opcode.TEXT, message, True)
    assert stream.buffer == b""


def test_a_frame_is_made_once() -> None:
    """For all viewers that are sent the same."""
    message = b"the same"
    assert frame(message) is frame(message)
