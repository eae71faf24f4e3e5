"""How late lines are for those who may see them while hostile clients do what they can."""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.servers import Site, cpu_seconds, servers
from benchmarks.tables import show
from celery_livelog.access.tokens import Tokens
from tests.nodes.process import LocalProcess
from tests.nodes.relay import Relay

_VIEWERS, _LINES, _INTERVAL = 20, 1500, 0.01
_KEY = "a-key-of-the-benchmark"
_ROOT = Path(__file__).parent.parent


def _process(relay: Relay, name: str, *arguments: object) -> LocalProcess:
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]
    made = LocalProcess(f"{name}-{uuid.uuid4().hex[:4]}", command, relay.directory, {"PYTHONPATH": str(_ROOT)})
    made.start()
    made.wait_for_output("ready", 60)
    return made


def _watched(site: Site, relay: Relay, hostile: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the good viewers of a task see, and what the hostile ones get."""
    task_id = uuid.uuid4().hex
    token = Tokens([_KEY]).view(task_id=task_id, expires=time.time() + 3600)
    crowd = _process(relay, "crowd", urlsplit(relay.url).port, task_id, _VIEWERS, 0, token)
    attackers, server = None, psutil.Process(relay.pid)
    try:
        if hostile:
            seconds = _LINES * _INTERVAL + 2
            attackers = _process(relay, "attackers", relay.url, task_id, _KEY, seconds)
        began, used = time.monotonic(), cpu_seconds(server)
        site.project.send("print_times", _LINES, _INTERVAL, task_id=task_id).get(timeout=60)
        share = 100 * (cpu_seconds(server) - used) / (time.monotonic() - began)
        crowd.wait(60)
        seen = {**json.loads(crowd.output().splitlines()[-1]), "share": share}
        if attackers is None:
            return seen, {}
        attackers.wait(60)
        return seen, json.loads(attackers.output().splitlines()[-1])
    finally:
        crowd.end()
        if attackers is not None:
            attackers.end()


def main() -> None:
    """Measure without them and with them."""
    with servers() as started:
        site = started.site("on", livelog=True)
        relay = started.relay(site, LIVELOG_SECRET_KEY=_KEY)
        alone, _ = _watched(site, relay, hostile=False)
        among, got = _watched(site, relay, hostile=True)
    rows: list[tuple[object, ...]] = [
        ("complete and in order", _whole(alone), _whole(among)),
        ("print to viewer, median, ms", alone["median"], among["median"]),
        ("print to viewer, p99, ms", alone["p99"], among["p99"]),
        ("print to viewer, longest, ms", alone["longest"], among["longest"]),
        ("relay, % of a core", alone["share"], among["share"]),
        *((f"hostile: {kind}", "", count) for kind, count in got["tries"].items()),
        ("hostile: how they were refused", "", ", ".join(f"{code}: {n}" for code, n in sorted(got["codes"].items()))),
        ("hostile: records that they got", "", got["records"]),
    ]
    title = f"{_VIEWERS} viewers of a task that prints {1 / _INTERVAL:.0f} lines a second"
    show(title, "hostile", ["", "alone", "among hostile clients"], rows)


def _whole(figures: dict[str, Any]) -> str:
    return "yes" if figures["records"] == [_LINES + 1] and not figures["faults"] else f"no: {figures['faults']} faults"


if __name__ == "__main__":
    main()
