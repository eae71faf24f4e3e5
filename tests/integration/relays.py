"""What tests of the relay and of the ASGI app share: logs to serve, both servers, tokens, and a viewer's WebSocket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from celery_livelog.access.tokens import Tokens
from celery_livelog.settings import Settings
from tests.integration.stored import Shipped, shipped
from tests.nodes.valkey import Valkey

KEY = "a-key-of-the-tests"
TOKENS = Tokens([KEY])
#: A task that is over, one that runs, and one that nobody has a token for.
OVER, RUNS, HIDDEN = "task-over", "task-runs", "task-hidden"


def token(task_id: str = OVER, seconds: float = 600) -> str:
    """A token that shows one task."""
    return TOKENS.view(task_id=task_id, expires=time.time() + seconds)


def bearer(task_id: str = OVER) -> dict[str, str]:
    """The header that brings it."""
    return {"Authorization": f"Bearer {token(task_id)}"}


def environment(valkey: Valkey, directory: Path) -> dict[str, str]:
    """The settings of a server that reads what `logs` has written."""
    return {
        "LIVELOG_REDIS_URL": valkey.url,
        "LIVELOG_DIR": str(directory / "logs"),
        "LIVELOG_SECRET_KEY": KEY,
    }


@contextmanager
def logs(valkey: Valkey, directory: Path) -> Iterator[Shipped]:
    """The tasks: three lines of `OVER` and `HIDDEN`, and of `RUNS` nothing yet."""
    conf = {"livelog_redis_url": valkey.url, "livelog_dir": str(directory / "logs")}
    with shipped(Settings.from_conf(conf)) as stores:
        for number, task_id in enumerate((OVER, HIDDEN), 1):
            attempt = stores.begin(number, task_id)
            stores.print(attempt, 1, 3)
            stores.end(attempt, 4)
        stores.settle()
        yield stores


@contextmanager
def socket(
    url: str,
    *,
    path: str = "/ws",
    origin: str | None = None,
    headers: dict[str, str] | None = None,
    subprotocols: Sequence[str] = (),
) -> Iterator[ClientConnection]:
    """A WebSocket to a server at `url`."""
    with connect(
        url.replace("http", "ws", 1) + path,
        origin=None if origin is None else Origin(origin),
        additional_headers=headers,
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        proxy=None,
    ) as client:
        yield client


def hear(client: ClientConnection, timeout: float = 30) -> dict[str, Any] | int:
    """The next message but heartbeats, or the code of the close."""
    try:
        while (message := json.loads(client.recv(timeout=timeout)))["type"] == "heartbeat":
            pass
    except ConnectionClosed:
        assert client.close_code is not None
        return client.close_code
    assert isinstance(message, dict)
    return message


def say(client: ClientConnection, **message: Any) -> None:
    """Send a message, if the server is still there."""
    with suppress(ConnectionClosed):
        client.send(json.dumps(message))


def follow(client: ClientConnection, task_id: str, **options: Any) -> tuple[list[str], int]:
    """All lines of a task's log as they come, and the code of the close."""
    lines: list[str] = []
    say(client, type="subscribe", task_id=task_id, **options)
    while not isinstance(message := hear(client), int):
        lines += [record["line"] for record in message.get("records", ()) if record["type"] == "log_line"]
    return lines, message
