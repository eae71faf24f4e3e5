"""Many viewers in one process: WebSockets read by hand, so that it is the server that is measured and not its clients.

``python -m benchmarks.crowd PORT TASK_ID VIEWERS STALLED [TOKEN]`` prints ``ready`` when all are there, and figures at
the end.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
from array import array
from time import monotonic, time_ns

import msgspec

from benchmarks.tables import median_and_p99

#: Seconds, as the browser's element does it: the first try, and the longest pause.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0
_REQUEST = (
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class _Record(msgspec.Struct):
    n: int
    type: str
    line: str = ""


class _Message(msgspec.Struct):
    type: str
    attempt: str = ""
    records: list[_Record] = []


_decode = msgspec.json.Decoder(_Message).decode


class Viewer(asyncio.Protocol):
    """One viewer, over as many connections as it needs.

    :param stalls: with a number, it stalls at once: odd ones never acknowledge, even ones do not even read.
    """

    def __init__(self, crowd: Crowd, stalls: int | None) -> None:
        self._crowd = crowd
        self._stalls = stalls
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._greeted = False
        self._pause = _FIRST_PAUSE
        self._attempt = ""
        self.n = 0
        self.faults = 0
        self.over = False
        #: When something came after the last connection was lost.
        self.lost: float | None = None
        self.back: float | None = None

    def connect(self) -> None:
        """Connect, and again until the log is over."""
        asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        own = socket.socket()
        own.setblocking(False)
        if self._stalls is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        self._greeted = False
        self._buffer.clear()
        try:
            await loop.sock_connect(own, ("127.0.0.1", self._crowd.port))
            await loop.create_connection(lambda: self, sock=own)
        except OSError:
            own.close()
            self._again()

    def _again(self) -> None:
        asyncio.get_running_loop().call_later(self._pause * (0.5 + random.random() / 2), self.connect)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_REQUEST.encode())

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over and not self._crowd.over:
            self.lost, self.back = self.lost or monotonic(), None
            self._again()

    def data_received(self, data: bytes) -> None:
        now = time_ns()
        self._buffer += data
        if not self._greeted:
            _, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not end:
                return
            self._greeted, self._buffer = True, bytearray(rest)
            self._subscribe()
        while (frame := self._frame()) is not None:
            self._hear(*frame, now)

    def _subscribe(self) -> None:
        if self._stalls is not None and self._stalls % 2:
            self._say({"type": "ack", "n": 0})
        after = f"{self._attempt}:{self.n}" if self.n else None
        self._say({"type": "subscribe", "task_id": self._crowd.task_id, "after": after, "token": self._crowd.token})
        if self._stalls is not None and not self._stalls % 2:
            assert self._transport is not None
            self._transport.pause_reading()
        self._crowd.arrived()

    def _frame(self) -> tuple[int, bytes] | None:
        """Take one whole frame out of the buffer."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1], 2
        if length == 126:
            if len(buffer) < 4:
                return None
            (length,), start = struct.unpack_from("!H", buffer, 2), 4
        elif length == 127:
            if len(buffer) < 10:
                return None
            (length,), start = struct.unpack_from("!Q", buffer, 2), 10
        if len(buffer) < start + length:
            return None
        frame = buffer[0] & 15, bytes(buffer[start : start + length])
        del buffer[: start + length]
        return frame

    def _hear(self, kind: int, data: bytes, now: int) -> None:
        assert self._transport is not None
        if kind == 9:
            self._transport.write(bytes((0x8A, 0x80 | len(data), 0, 0, 0, 0)) + data)
        elif kind == 8:
            self._transport.close()
        elif kind == 1:
            message = _decode(data)
            if message.type == "records":
                self._pause = _FIRST_PAUSE
                if self.lost is not None and self.back is None:
                    self.back = monotonic()
                self._take(message, now)

    def _take(self, message: _Message, now: int) -> None:
        self._attempt = message.attempt
        for record in message.records:
            if record.type == "partial":
                continue
            self.faults += record.n != self.n + 1 or record.type == "gap"
            self.n = record.n
            if record.line.isdigit() and self.lost is None:
                self._crowd.delays.append((now - int(record.line)) / 1e6)
        if message.records[-1].type == "log_line_end":
            self.over = True
            self._crowd.ended()

    def _say(self, message: dict[str, object]) -> None:
        assert self._transport is not None
        data = json.dumps(message).encode()
        self._transport.write(bytes((0x81, 0x80 | 126)) + struct.pack("!H", len(data)) + bytes(4) + data)


class Crowd:
    """All of them."""

    def __init__(self, port: int, task_id: str, count: int, stalled: int, token: str | None = None) -> None:
        self.port = port
        self.task_id = task_id
        self.token = token
        self.delays = array("d")
        self.over = False
        self._there = self._ended = 0
        self._all_over = asyncio.Event()
        stalls = {place * count // stalled: place for place in range(stalled)}
        self._viewers = [Viewer(self, stalls.get(place)) for place in range(count)]
        self._good = [viewer for place, viewer in enumerate(self._viewers) if place not in stalls]

    def arrived(self) -> None:
        """One more has subscribed."""
        self._there += 1
        if self._there == len(self._viewers):
            print("ready", flush=True)

    def ended(self) -> None:
        """One more has seen the end."""
        self._ended += 1
        if self._ended == len(self._good):
            self._all_over.set()

    async def run(self) -> None:
        """Watch until all that can have seen the end, and print figures."""
        for viewer in self._viewers:
            viewer.connect()
            await asyncio.sleep(0.002)
        await self._all_over.wait()
        self.over = True
        backs = [viewer.back - viewer.lost for viewer in self._good if viewer.back and viewer.lost]
        median, p99 = median_and_p99(self.delays) if len(self.delays) > 1 else (0.0, 0.0)
        figures = {
            "viewers": len(self._good),
            "faults": sum(viewer.faults for viewer in self._good),
            "records": sorted({viewer.n for viewer in self._good}),
            "median": median,
            "p99": p99,
            "longest": max(self.delays, default=0.0),
            "back": len(backs),
            "slowest_back": max(backs, default=0.0),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    asyncio.run(Crowd(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:]).run())
