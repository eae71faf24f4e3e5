"""How many tasks that do nothing a worker process runs in a second, with livelog on and off, in turn."""

from __future__ import annotations

import statistics
import uuid

from benchmarks.servers import Site, cpu_seconds, servers, wait_until_quiet
from benchmarks.tables import show

_ROUNDS, _TASKS = 7, 500


def _measure(site: Site) -> tuple[float, float]:
    """Tasks a second, and CPU microseconds of one. They wait behind one that holds the process until all are sent."""
    key = uuid.uuid4().hex
    first = site.send("hold", key)
    for _ in range(_TASKS):
        site.send("nothing")
    last = site.send("now")
    before = cpu_seconds(site.child)
    site.valkey.client.rpush(key, "go")
    rate = _TASKS / (last.get(timeout=60) - first.get(timeout=60))
    return rate, (cpu_seconds(site.child) - before) / _TASKS * 1e6


def _measure_with_shipper(site: Site) -> tuple[float, float, float]:
    """The same, and the shipper's CPU microseconds for a task."""
    before = cpu_seconds(site.shipper)
    measured = _measure(site)
    wait_until_quiet(site.shipper)
    return (*measured, (cpu_seconds(site.shipper) - before) / _TASKS * 1e6)


def main() -> None:
    """Measure."""
    with servers() as started:
        off, on = started.site("off", livelog=False), started.site("on", livelog=True)
        rounds = [(*_measure(off), *_measure_with_shipper(on)) for _ in range(_ROUNDS + 1)][1:]
    ratio = statistics.median(on_rate / off_rate for off_rate, _, on_rate, _, _ in rounds)
    off_rate, off_cpu, on_rate, on_cpu, shipper = (round(statistics.median(kind)) for kind in zip(*rounds, strict=True))
    header = ["livelog", "tasks/s", "to off", "process for tasks, CPU µs per task", "shipper, CPU µs per task"]
    title = f"Tasks that do nothing in one prefork process; medians of {_ROUNDS} rounds of {_TASKS} tasks"
    rows = [("off", off_rate, 1.0, off_cpu, ""), ("on", on_rate, ratio, on_cpu, shipper)]
    show(title, "throughput", header, rows)


if __name__ == "__main__":
    main()
