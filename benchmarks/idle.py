"""What livelog does while nothing happens: CPU time of shipper and worker, in percent of a core."""

from __future__ import annotations

import threading
import uuid

from benchmarks.servers import Site, cpu_seconds, servers, wait_until_quiet
from benchmarks.tables import show
from tests.nodes.waiting import wait_for

_SECONDS = 10.0


def _percent(site: Site) -> tuple[float, float]:
    """What the shipper and the process for tasks use."""
    processes = site.shipper, site.child
    wait_until_quiet(processes[0])
    before = [cpu_seconds(process) for process in processes]
    threading.Event().wait(_SECONDS)
    shipper, child = (
        (cpu_seconds(process) - start) / _SECONDS * 100 for process, start in zip(processes, before, strict=True)
    )
    return shipper, child


def main() -> None:
    """Measure without a task, and with one that only waits."""
    with servers() as started:
        site = started.site("on", livelog=True)
        rows = [("no task", *_percent(site))]
        key = uuid.uuid4().hex
        result = site.project.send("hold", key)
        wait_for(lambda: site.valkey.client.exists(f"task:logs:{result.id}"), what="the task's first line")
        rows.append(("a task that waits", *_percent(site)))
        site.valkey.client.rpush(key, "go")
        result.get(timeout=60)
    header = ["", "shipper, % of a core", "process for tasks, % of a core"]
    show(f"CPU time over {_SECONDS:.0f} s", "idle", header, rows)


if __name__ == "__main__":
    main()
