"""How long a printed line is on its way to those who follow the task: in Redis, in a terminal, in a browser."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from time import time_ns
from typing import Any

from websockets.sync.client import connect

from benchmarks.servers import Site, servers
from benchmarks.tables import median_and_p99, show
from tests.nodes.flower import Flower
from tests.nodes.waiting import wait_for

_LINES, _INTERVAL = 1000, 0.01


def _redis(site: Site, task_id: str) -> Iterator[str]:
    """Lines as whoever reads the stream sees them."""
    key, last = f"task:logs:{task_id}", "0-0"
    while True:
        answer: Any = site.valkey.client.xread({key: last}, block=1000)
        for _, entries in answer or ():
            for entry_id, fields in entries:
                if fields["type"] == "log_line_end":
                    return
                last = entry_id
                yield fields["line"]


def _terminal(site: Site, task_id: str) -> Iterator[str]:
    """Lines as ``celery livelog logs -f`` shows them."""
    command = [sys.executable, "-m", "celery", "-A", "proj", "livelog", "logs", task_id, "--follow"]
    with subprocess.Popen(
        command, cwd=site.project.directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield from process.stdout


def _browser(flower: Flower, task_id: str) -> Iterator[str]:
    """Lines as Flower's page gets them."""
    with connect(flower.url.replace("http://", "ws://") + "/livelog/ws", proxy=None) as socket:
        socket.send(json.dumps({"type": "subscribe", "task_id": task_id}))
        for message in socket:
            content = json.loads(message)
            if content["type"] == "error":
                raise RuntimeError(content)
            for record in content.get("records", ()):
                if record["type"] == "log_line":
                    yield record["line"]


def _delays(site: Site, viewers: dict[str, Callable[[str], Iterator[str]]]) -> dict[str, list[float]]:
    """Let a task print the time again and again; milliseconds that each line took to each of the viewers."""
    task_id, delays = uuid.uuid4().hex, {name: list[float]() for name in viewers}

    def look(name: str) -> None:
        for line in viewers[name](task_id):
            now = time_ns()
            if line.strip().isdigit():
                delays[name].append((now - int(line)) / 1e6)

    threads = [threading.Thread(target=look, args=[name], daemon=True) for name in viewers]
    for thread in threads:
        thread.start()
    wait_for(lambda: _waiting(site) == len(threads), what="all to wait for the task")
    site.project.run("print_times", _LINES, _INTERVAL, task_id=task_id)
    for thread in threads:
        thread.join(30)
    return delays


def _waiting(site: Site) -> int:
    """Clients that wait for something new in a stream."""
    return sum(client["cmd"] == "xread" for client in site.valkey.client.client_list())


def main() -> None:
    """Measure with all viewers at once."""
    with servers() as started:
        site = started.site("on", livelog=True)
        flower = started.flower(site)
        viewers: dict[str, Callable[[str], Iterator[str]]] = {
            "XREAD": lambda task_id: _redis(site, task_id),
            "celery livelog logs --follow": lambda task_id: _terminal(site, task_id),
            "WebSocket of Flower": lambda task_id: _browser(flower, task_id),
        }
        delays = _delays(site, viewers)
    rows = [(name, len(taken), *median_and_p99(taken), max(taken)) for name, taken in delays.items()]
    title = f"From print to reader; {_LINES} lines, {1 / _INTERVAL:.0f} in a second"
    show(title, "latency", ["reader", "lines", "median, ms", "p99, ms", "longest, ms"], rows)


if __name__ == "__main__":
    main()
