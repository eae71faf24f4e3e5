"""What tests of Flower need: a project that is served, requests, and a viewer's WebSocket."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.nodes.flower import Flower
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey
from tests.nodes.worker import Worker

LOGIN = "user:secret"
AUTHORIZED = {"Authorization": "Basic " + base64.b64encode(LOGIN.encode()).decode()}


@dataclass(frozen=True)
class Answer:
    """A server's answer, whatever its status; redirects are not followed."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines of an ndjson answer."""
        return [json.loads(line) for line in self.body.splitlines()]


@contextmanager
def serving(valkey: Valkey, directory: Path) -> Iterator[tuple[Project, Flower]]:
    """A project with a worker that sends its events, and a Flower on loopback."""
    project = Project(directory / "project", valkey.url)
    worker, flower = Worker(project, args=["--task-events"]), Flower(project)
    try:
        worker.start()
        flower.start()
        yield project, flower
    finally:
        flower.end()
        worker.end()
        project.close()


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def get(url: str, headers: Mapping[str, str] | None = None, timeout: float = 30) -> Answer:
    """Ask for `url`, at most `timeout` seconds."""
    opener = urllib.request.build_opener(_StayHere)
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with opener.open(request, timeout=timeout) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


@contextmanager
def viewer(url: str, origin: str | None = None, headers: Mapping[str, str] | None = None) -> Iterator[ClientConnection]:
    """A viewer's WebSocket at the ``/livelog/ws`` of the Flower at `url`."""
    address = url.replace("http://", "ws://") + "/livelog/ws"
    with connect(address, origin=origin, additional_headers=headers, proxy=None) as socket:  # type: ignore[arg-type]
        yield socket


def subscribe(socket: ClientConnection, task_id: str, **options: Any) -> None:
    """Take the greeting and ask for a task's log."""
    assert json.loads(socket.recv(timeout=30))["type"] == "hello"
    socket.send(json.dumps({"type": "subscribe", "task_id": task_id, **options}))


def records(socket: ClientConnection) -> Iterator[dict[str, Any]]:
    """The records of a viewer's log, until the server says that this is all."""
    for message in socket:
        content = json.loads(message)
        if content["type"] == "records":
            yield from ({**record, "attempt": content["attempt"]} for record in content["records"])
