"""Messages as WebSocket frames, made once for all whom the same message goes to."""

from __future__ import annotations

import struct
from functools import lru_cache

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketProtocol

#: The last frame of a message that is text.
_TEXT = 0x81


async def send(connection: WebSocketProtocol | None, message: bytes) -> None:
    """Send a message of text; done when the network has taken it. To one that is gone nothing is sent.

    Tornado's own `write_message` copies the message and starts a task for each viewer.
    """
    stream = None if connection is None or connection.is_closing() else connection.stream
    if stream is None:
        return
    try:
        await stream.write(frame(message))
    except StreamClosedError:
        pass  # the handler is told, and stops the session


@lru_cache(maxsize=64)
def frame(message: bytes) -> bytes:
    """A message of text as one frame, as servers send it: not masked, not compressed."""
    length = len(message)
    if length < 126:
        return struct.pack("!BB", _TEXT, length) + message
    if length < 1 << 16:
        return struct.pack("!BBH", _TEXT, 126, length) + message
    return struct.pack("!BBQ", _TEXT, 127, length) + message
