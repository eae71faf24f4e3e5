"""A task that prints 100,000 lines as fast as it can: how fast they are everywhere, and what the shipper needs."""

from __future__ import annotations

import asyncio
import statistics
import uuid
from time import perf_counter
from typing import Any

from benchmarks.servers import Site, cpu_seconds, servers, wait_until_quiet
from benchmarks.tables import show
from celery_livelog.stores.archive import Archive
from tests.nodes.waiting import wait_for

_ROUNDS, _LINES = 3, 100_000


class _Burst:
    """One such task."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._task_id = uuid.uuid4().hex
        shipper = site.shipper
        before, started = cpu_seconds(shipper), perf_counter()
        site.project.run("number_lines", _LINES, task_id=self._task_id)
        self.printed = perf_counter() - started
        wait_for(self._end_in_stream, 60, "the end in the stream")
        self.live = perf_counter() - started
        wait_for(self._is_archived, 60, "the archive")
        self.archived = perf_counter() - started
        wait_until_quiet(shipper)
        self.cpu = cpu_seconds(shipper) - before
        self.entries = site.valkey.client.xinfo_stream(f"task:logs:{self._task_id}")["entries-added"]

    def _end_in_stream(self) -> bool:
        newest: Any = self._site.valkey.client.xrevrange(f"task:logs:{self._task_id}", count=1)
        return any(fields["type"] == "log_line_end" for _, fields in newest)

    def _is_archived(self) -> bool:
        manifests = asyncio.run(Archive(self._site.project.settings.archive_url).manifests(self._task_id))
        return any(manifest.complete and manifest.attempt.lines == _LINES for manifest in manifests)


def main() -> None:
    """Measure; the first burst only warms up."""
    with servers() as started:
        site = started.site("on", livelog=True, worker_redirect_stdouts=False)
        bursts = [_Burst(site) for _ in range(_ROUNDS + 1)][1:]
    middle = {
        name: statistics.median(getattr(burst, name) for burst in bursts) for name in vars(bursts[0]) if name[0] != "_"
    }
    printed, live, archived = (round(_LINES / middle[name]) for name in ("printed", "live", "archived"))
    header = ["printed, lines/s", "live, lines/s", "entries", "archived, lines/s", "shipper, CPU µs per line"]
    row = [printed, live, int(middle["entries"]), archived, middle["cpu"] / _LINES * 1e6]
    show(f"{_LINES} lines from one task; medians of {_ROUNDS} rounds", "burst", header, [row])


if __name__ == "__main__":
    main()
