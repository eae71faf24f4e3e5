"""Takes raw output to the worker's console, where it would have been shown without livelog."""

from __future__ import annotations

import os
from collections import deque

from celery_livelog.shipper.sinks import Sink

#: Bytes that may wait for a console that is slow to take them; beyond that they are dropped there only.
_WAITING_BYTES = 8 * 1024 * 1024


class Console:
    """The console sink.

    :param descriptors: those of its stdout and its stderr.
    """

    def __init__(self, descriptors: tuple[int, int]) -> None:
        self._descriptors = descriptors
        # Two counters, each written by one thread only: the loop's and the sink's.
        self._taken = self._shown = 0
        self._sink: Sink[tuple[int, bytes]] = Sink("the console", self._work, hurried=True)

    def put(self, stream: int, data: bytes) -> None:
        """Take raw output of a stream."""
        if self._taken - self._shown < _WAITING_BYTES:
            self._taken += len(data)
            self._sink.put((stream, data))

    def close(self, timeout: float) -> None:
        """See `Sink.close`."""
        self._sink.close(timeout)

    def _work(self, queue: deque[tuple[int, bytes]]) -> None:
        stream, data = queue.popleft()
        self._shown += len(data)
        while data:
            try:
                data = data[os.write(self._descriptors[stream - 1], data) :]
            except OSError:
                return  # nobody is there to see it
