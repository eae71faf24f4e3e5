"""What a printed or logged line costs a task: the same worker with livelog on and off, in turn."""

from __future__ import annotations

import statistics

from benchmarks.servers import Site, servers
from benchmarks.tables import show

_ROUNDS = 15
#: Task and number of lines for each kind of line.
_KINDS = {
    "print(text)": ("print_lines", 2000),
    "print(text, number)": ("print_parts", 2000),
    "print(text), 10 ms apart": ("print_slowly", 20),
    "logger.info(text)": ("log_lines", 2000),
}


def _compare(off: Site, on: Site, task: str, lines: int) -> tuple[float, float, float]:
    """CPU microseconds for a line: off, on, and what is added; medians of the rounds."""
    pairs = [(off.run(task, lines), on.run(task, lines)) for _ in range(_ROUNDS + 1)][1:]
    without, with_ = (statistics.median(side) for side in zip(*pairs, strict=True))
    return without, with_, statistics.median(b - a for a, b in pairs)


def main() -> None:
    """Measure with and without Celery's redirection of stdout, which is on unless a project turns it off."""
    rows = []
    for redirect in (True, False):
        with servers() as started:
            off = started.site("off", livelog=False, worker_redirect_stdouts=redirect)
            on = started.site("on", livelog=True, worker_redirect_stdouts=redirect)
            rows += [(str(redirect), kind, *_compare(off, on, *task)) for kind, task in _KINDS.items()]
    header = ["worker_redirect_stdouts", "line", "off, µs", "on, µs", "added, µs"]
    show(f"CPU time of a line in a prefork task; medians of {_ROUNDS} rounds", "cost", header, rows)


if __name__ == "__main__":
    main()
