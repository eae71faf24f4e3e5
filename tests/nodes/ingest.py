"""A server of ``/ingest`` alone: ``python -m tests.nodes.ingest PORT``, with its settings in the environment.

Tokens are taken as bearer or from the first message, as every server of ours does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tornado import web, websocket

from celery_livelog.environment import settings_of
from celery_livelog.errors import TokenError
from celery_livelog.ingest import Ingest
from celery_livelog.ingest.session import Session
from celery_livelog.tokens import Tokens, Writer
from tests.nodes.process import LocalProcess, free_port

KEY = "a key for tests that is long enough"


def token(name: str = "", seconds: float = 600.0, key: str = KEY, **what: object) -> str:
    """A token for writing."""
    return Tokens([key]).write(expires=time.time() + seconds, name=name, **what)  # type: ignore[arg-type]


class IngestServer(LocalProcess):
    """The process; `url` is where it listens."""

    def __init__(self, directory: Path, environment: Mapping[str, str], name: str = "ingest", port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"ws://127.0.0.1:{self.port}/ingest"
        root = str(Path(__file__).parents[2])
        env = {"LIVELOG_SECRET_KEY": KEY, "PYTHONPATH": root, **environment}
        super().__init__(name, [sys.executable, "-m", "tests.nodes.ingest", str(self.port)], directory, env)

    def start(self) -> None:
        """Run the server and wait until it answers."""
        super().start()
        self.wait_for_output("listening")


class _Socket(websocket.WebSocketHandler):
    _session: Session | None = None

    @property
    def max_message_size(self) -> int:
        return 2 * 1024 * 1024

    def check_origin(self, origin: str) -> bool:
        return False

    def open(self, *args: str, **kwargs: str) -> None:
        bearer = self.request.headers.get("Authorization", "").removeprefix("Bearer ")
        self._writer: Writer | None = None
        try:
            self._writer = _writer(bearer) if bearer else None
        except TokenError:
            self.close(4401, "unauthorized")
            return
        self._session = self.settings["ingest"].session(
            self._deliver, self.close, writer=self._writer, authenticate=_writer
        )
        self._session.start()

    async def on_message(self, message: str | bytes) -> None:
        if self._session is not None:
            await self._session.receive(message)

    def on_close(self) -> None:
        if self._session is not None:
            self._stopping = asyncio.ensure_future(self._session.stop())

    async def _deliver(self, message: bytes) -> None:
        try:
            await self.write_message(message)
        except websocket.WebSocketClosedError:
            pass


def _writer(text: str) -> Writer:
    return Tokens([KEY]).writer(text, time.time())


async def _serve(port: int) -> None:
    ingest = Ingest(settings_of(os.environ))
    server = web.Application([("/ingest", _Socket)], ingest=ingest).listen(port, "127.0.0.1")
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    print("listening", flush=True)
    await end.wait()
    server.stop()
    await ingest.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
