"""A small server of logs: the HTTP API and the WebSocket without anything around them, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application

from celery_livelog.permissions import EVERYTHING, Viewer
from celery_livelog.reader import Reader
from celery_livelog.settings import Settings
from celery_livelog.web.api import LogApi
from celery_livelog.web.pauses import avoid_pauses
from celery_livelog.web.run_api import RunLogsApi
from celery_livelog.web.socket import ViewerSocket
from tests.nodes.process import LocalProcess, free_port


class Window(LocalProcess):
    """The server; `url` is its root, without a slash at the end."""

    def __init__(self, settings: Mapping[str, Any], directory: Path, name: str = "window") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "tests.nodes.window", str(self.port), json.dumps(dict(settings))]
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        super().__init__(name, command, directory, {"PYTHONPATH": os.pathsep.join(filter(None, paths))})

    def start(self) -> None:
        """Run the server and wait until it listens."""
        super().start()
        self.wait_for_output("listening")


class Socket(ViewerSocket):
    """``/ws`` for everybody."""

    def viewer(self) -> Viewer:
        return Viewer(via="window", seen=EVERYTHING)


def application(reader: Reader) -> Application:
    """The handlers of the server."""
    handlers: list[Any] = [
        ("/ws", Socket),
        ("/api/tasks/([^/]+)/log", LogApi),
        ("/api/runs/([^/]+)/logs", RunLogsApi),
    ]
    return Application(handlers, livelog_reader=reader, log_function=lambda handler: None)


async def _serve(port: int, settings: Settings) -> None:
    server = HTTPServer(application(Reader(settings)))
    server.bind(port, "127.0.0.1", backlog=1024)
    server.start()
    avoid_pauses()
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Settings.from_conf(json.loads(sys.argv[2]))))
