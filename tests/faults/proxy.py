"""A TCP proxy in front of a server that breaks connections in the ways networks do; switched while it runs."""

from __future__ import annotations

import enum
import socket
import struct
import threading

_BYTES = 65536
#: Bytes of commands above which a chunk counts as a pipeline that can be cut in the middle.
_PIPELINE_BYTES = 1000
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


class Mode(enum.Enum):
    """What becomes of bytes that come through."""

    PASS = "pass"
    #: Connections are accepted, and all that is sent is swallowed.
    BLACKHOLE = "black hole"
    #: Commands arrive and are executed; their answers are swallowed.
    NO_REPLY = "no reply"
    #: Answers come late.
    SLOW = "slow"
    #: The first answer to a pipeline is a reset: it was executed.
    RESET = "reset after executing"
    #: Half of a pipeline arrives, then both ends are reset.
    CUT = "cut in the middle"
    #: Nobody listens, and all connections are closed.
    REFUSE = "refuse"


class Proxy:
    """Listens on a port of the loopback; `mode` may be set at any time.

    :param target: the server's port.
    :param port: where to listen; 0 for any that is free.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self._target = target
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._closed = threading.Event()
        self.delay = 0.5  # seconds, of SLOW
        self._mode = Mode.PASS
        self.port = port
        self._listen()

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        if mode is Mode.REFUSE and self._listener is not None:
            self._stop_listening()
        if mode is not Mode.REFUSE and self._listener is None:
            self._listen()
        if mode is Mode.REFUSE or before in (Mode.BLACKHOLE, Mode.NO_REPLY):
            self._reset_all()  # what was swallowed cannot be made good

    def close(self) -> None:
        """Close all connections and listen no more."""
        self._closed.set()
        self._stop_listening()
        self._reset_all()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                _reset(client)
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._pump, args=(client, server, pair, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, pair, True), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket], answers: bool
    ) -> None:
        try:
            while data := source.recv(_BYTES):
                mode = self._mode
                if mode is Mode.BLACKHOLE or (mode is Mode.NO_REPLY and answers):
                    continue
                if mode is Mode.SLOW and answers:
                    self._closed.wait(self.delay)
                if mode is Mode.RESET and answers and len(data) > _PIPELINE_BYTES:
                    break
                if mode is Mode.CUT and not answers and len(data) > _PIPELINE_BYTES:
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        except OSError:
            pass
        self._drop(pair)

    def _drop(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            known = pair in self._pairs
            self._pairs.discard(pair)
        if known:
            for end in pair:
                _reset(end)

    def _reset_all(self) -> None:
        for pair in list(self._pairs):
            self._drop(pair)


def _reset(end: socket.socket) -> None:
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads from it
    except OSError:
        pass
    end.close()
