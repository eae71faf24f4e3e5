"""A thousand viewers of one task: how late a line is, what a viewer takes, and how they come back after a restart."""

from __future__ import annotations

import json
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.servers import Site, cpu_seconds, servers
from benchmarks.tables import show
from tests.nodes.process import LocalProcess
from tests.nodes.relay import Relay
from tests.nodes.waiting import wait_for

_VIEWERS, _STALLED = 1000, 50
_RETURNING = 200
_LINES, _INTERVAL = 1500, 0.01
_ROOT = Path(__file__).parent.parent


@contextmanager
def _crowd(relay: Relay, task_id: str, viewers: int, stalled: int = 0) -> Iterator[LocalProcess]:
    """Viewers of a task that has not started yet, all of them there."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.crowd",
        str(urlsplit(relay.url).port),
        task_id,
        str(viewers),
        str(stalled),
    ]
    crowd = LocalProcess(f"crowd-{viewers}-{task_id[:4]}", command, relay.directory, {"PYTHONPATH": str(_ROOT)})
    crowd.start()
    try:
        crowd.wait_for_output("ready", 60)
        yield crowd
    finally:
        crowd.end()


def _figures(crowd: LocalProcess) -> dict[str, Any]:
    """What the viewers have seen, when all are through."""
    crowd.wait(120)
    figures: dict[str, Any] = json.loads(crowd.output().splitlines()[-1])
    return figures


def _readers(site: Site) -> int:
    """Clients of Redis that wait for something new in a stream."""
    return sum(client["cmd"] == "xread" for client in site.valkey.client.client_list())


def _many(site: Site, relay: Relay) -> list[tuple[object, ...]]:
    """Follow a task by many, some of whom stall."""
    server, task_id = psutil.Process(relay.pid), uuid.uuid4().hex
    with _crowd(relay, uuid.uuid4().hex, 10):
        wait_for(lambda: _readers(site) == 1, what="the first viewers to wait")
    before = server.memory_info().rss
    with _crowd(relay, task_id, _VIEWERS, _STALLED) as crowd:
        wait_for(lambda: _readers(site) == 1, what="all to wait for the task")
        began, used = monotonic(), cpu_seconds(server)
        running = site.project.send("print_times", _LINES, _INTERVAL, task_id=task_id)
        peak = readers = 0
        while not running.ready():
            peak, readers = max(peak, server.memory_info().rss), max(readers, _readers(site))
        share = 100 * (cpu_seconds(server) - used) / (monotonic() - began)
        seen = _figures(crowd)
    whole = not seen["faults"] and seen["records"] == [_LINES + 1]
    return [
        ("good viewers, stalled ones", f"{seen['viewers']}, {_STALLED}"),
        ("readers at Redis", readers),
        ("complete and in order", "yes" if whole else f"no: {seen['faults']} faults, {seen['records'][:3]}"),
        ("print to viewer, median, ms", seen["median"]),
        ("print to viewer, p99, ms", seen["p99"]),
        ("print to viewer, longest, ms", seen["longest"]),
        ("memory per viewer, KiB", (peak - before) / 1024 / _VIEWERS),
        ("relay, % of a core", share),
    ]


def _restarted(site: Site, relay: Relay) -> list[tuple[object, ...]]:
    """Kill the relay under viewers and start it again."""
    task_id = uuid.uuid4().hex
    with _crowd(relay, task_id, _RETURNING) as crowd:
        running = site.project.send("print_times", _LINES, _INTERVAL, task_id=task_id)
        wait_for(lambda: site.valkey.client.xlen(f"task:logs:{task_id}") > _LINES // 4, what="some lines")
        relay.send(signal.SIGKILL)
        relay.wait()
        began = monotonic()
        relay.start()
        starting = monotonic() - began
        running.get(timeout=60)
        seen = _figures(crowd)
    whole = not seen["faults"] and seen["records"] == [_LINES + 1] and seen["back"] == _RETURNING
    return [
        ("viewers, all back", f"{_RETURNING}, {'yes' if seen['back'] == _RETURNING else seen['back']}"),
        ("from the kill until the relay listens, s", starting),
        ("from the kill until the last one sees lines, s", seen["slowest_back"]),
        ("complete and in order", "yes" if whole else f"no: {seen['faults']} faults, {seen['records'][:3]}"),
    ]


def main() -> None:
    """Measure both."""
    with servers() as started:
        site = started.site("on", livelog=True)
        relay = started.relay(site)
        many, restarted = _many(site, relay), _restarted(site, relay)
    title = f"{_VIEWERS} viewers of a task that prints {1 / _INTERVAL:.0f} lines a second"
    show(title, "viewers", ["", "figure"], many)
    show(f"The relay killed and started under {_RETURNING} viewers", "viewers", ["", "figure"], restarted)


if __name__ == "__main__":
    main()
