"""What a print costs a task in every state of Redis: the added time, in wall time, each print by itself."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.servers import Site, servers
from benchmarks.tables import show
from tests.nodes.process import free_port
from tests.nodes.valkey import Valkey

_ROUNDS, _LINES = 20, 2000
_HEALTHY = "healthy"


@contextmanager
def _black_hole() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        kept: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    kept.append(listener.accept()[0])
            except OSError:
                pass  # closed

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


def _second(ends: ExitStack, name: str, *options: str) -> Valkey:
    """A Valkey for logs alone: the broker stays well."""
    directory = ends.enter_context(TemporaryDirectory(prefix="livelog-bench-"))
    valkey = Valkey(Path(directory), options, name)
    ends.callback(valkey.end)
    valkey.start()
    return valkey


def _states(ends: ExitStack) -> dict[str, str]:
    """The states, each with the URL of a Redis in it."""
    stopped = _second(ends, "stopped")
    os.kill(stopped.pid, signal.SIGSTOP)
    ends.callback(os.kill, stopped.pid, signal.SIGCONT)
    full = _second(ends, "full", "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
    return {
        _HEALTHY: _second(ends, _HEALTHY).url,
        "refused": f"redis://127.0.0.1:{free_port()}/0",
        "black hole": f"redis://127.0.0.1:{ends.enter_context(_black_hole())}/0",
        "stopped": stopped.url,
        "out of memory": full.url,
    }


def _kill(site: Site) -> None:
    """End a worker at once: its shipper would go on trying for a minute."""
    shipper = site.shipper
    site.worker.kill()
    shipper.kill()
    shipper.wait(10)


def _quantiles(taken: list[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and longest."""
    cuts = statistics.quantiles(taken, n=100)
    return statistics.median(taken), cuts[98], max(taken)


def main() -> None:
    """Measure all states in turn, round after round, so that whatever else the machine does hits all alike."""
    with ExitStack() as ends:
        started = ends.enter_context(servers())
        sites: dict[str, Site] = {"off": started.site("off", livelog=False, worker_redirect_stdouts=False)}
        for state, url in _states(ends).items():
            name = state.replace(" ", "-")
            sites[state] = started.site(name, livelog=True, livelog_redis_url=url, worker_redirect_stdouts=False)
            ends.callback(_kill, sites[state])
        taken: dict[str, list[float]] = {state: [] for state in sites}
        for turn in range(_ROUNDS + 1):
            for state, site in sites.items():
                found = site.run("time_prints", _LINES)
                taken[state] += found if turn else []  # the first round only warms up
    base = statistics.median(taken["off"])
    rows = []
    for state in list(sites)[1:]:
        median, p99, longest = _quantiles(taken[state])
        rows.append((state, median - base, p99 - base, longest, median / statistics.median(taken[_HEALTHY])))
    header = ["Redis", "median added, µs", "p99 added, µs", "longest, µs", "median, to healthy"]
    show(f"A print in every state of Redis; {_ROUNDS * _LINES} prints each", "outage", header, rows)


if __name__ == "__main__":
    main()
