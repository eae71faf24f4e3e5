"""Tables of what is listed: aligned for a pipe, in colour for a terminal. Pure: gives the text to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from celery_livelog.cli.times import ago, local_time, parse_time, short_duration


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table.

    :param numbers: those that are aligned to the right.
    :param styles: the colours of what stands in the column STATE; all else there is red.
    """

    names: tuple[str, ...]
    numbers: frozenset[str] = frozenset()
    styles: Mapping[str, str] = field(default_factory=dict)

    def plain(self, rows: Sequence[Sequence[str]]) -> str:
        """Aligned columns for a pipe."""
        table = [self.names, *rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "".join(
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() + "\n"
            for cells in table
        )

    def coloured(self, rows: Sequence[Sequence[str]], colour: bool) -> str:
        """A table for a terminal."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in self.names:
            table.add_column(name, justify="right" if name in self.numbers else "left", no_wrap=name != "NAME")
        for row in rows:
            cells = zip(self.names, row, strict=True)
            table.add_row(
                *(Text(cell, self.styles.get(cell, "red") if name == "STATE" else "") for name, cell in cells)
            )
        console = Console(no_color=not colour)
        with console.capture() as text:
            console.print(table)
        return text.get()


def moment(time: str, now: datetime, *, relative: bool) -> str:
    """A time, if there is one: how long ago for who looks at it now, whole for a program."""
    if not time:
        return ""
    return ago(parse_time(time), now) if relative else local_time(time, "seconds")


def duration(started: str, ended: str, now: datetime) -> str:
    """From a start, if there is one, to an end, or until now."""
    if not started:
        return ""
    return short_duration(((parse_time(ended) if ended else now) - parse_time(started)).total_seconds())
