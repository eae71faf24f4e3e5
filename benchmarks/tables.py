"""Prints figures as a Markdown table below the command that gives them."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence


def show(title: str, name: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table.

    :param name: the benchmark's module.
    :param rows: cells; a float is shown with two digits behind the point.
    """
    cells = [list(header), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = [f"| {' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))} |" for row in cells]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    load = os.getloadavg()[0]
    print(f"\n{title}\n\n    python -m benchmarks.{name}    # {os.cpu_count()} cores, load {load:.1f}\n")
    print("\n".join([first, rule, *others]), flush=True)


def median_and_p99(values: Sequence[float]) -> tuple[float, float]:
    """The middle of the values, and what one in a hundred exceeds."""
    return statistics.median(values), statistics.quantiles(values, n=100)[98]


def _text(cell: object) -> str:
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
