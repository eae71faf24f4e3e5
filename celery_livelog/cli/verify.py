"""``livelog verify``: prove that the archive holds what it says it holds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.status import Status

from celery_livelog.cli.output import Output
from celery_livelog.cli.session import read_settings
from celery_livelog.cli.terminal import harmless
from celery_livelog.errors import LivelogError
from celery_livelog.stores.audit import Audit
from celery_livelog.stores.log_check import Checked, Finding

_DAMAGED, _INTERRUPTED = 1, 130
_MIB = 1024 * 1024


class _Unreachable(click.ClickException):
    exit_code = 2


@click.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a finding.")
@click.pass_obj
def verify(context: Any, task_ids: tuple[str, ...], as_json: bool) -> None:
    """Read the archived logs of tasks, or of all, and tell what is damaged in them."""
    report = _Report(Output(colour=not context.no_color), as_json)
    try:
        asyncio.run(_verify(read_settings(context).archive_url, task_ids, report))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except LivelogError as error:
        raise _Unreachable(" ".join(str(error).split())) from error
    sys.exit(_DAMAGED if report.findings else 0)


async def _verify(url: str, task_ids: tuple[str, ...], report: _Report) -> None:
    audit = Audit(url)
    if not audit.exists:
        raise LivelogError(f"there is no archive at {url}; expected what livelog_archive_url names")
    seen = set()
    with report.progress():
        async for checked in audit.check(task_ids):
            report.add(checked)
            if task_ids:
                seen.add(checked.task_id)
    for missing in sorted({*task_ids} - seen):
        report.tell(Finding(task_id=missing, attempt="", what="nothing of this task is in the archive"))
    report.close()


class _Report:
    """What was found: each finding at once on stdout, where it stands and the sum on stderr."""

    def __init__(self, output: Output, as_json: bool) -> None:
        self._output = output
        self._as_json = as_json
        self._status: Status | None = None
        self._logs = self._running = self._segments = self._records = self._size = 0
        self.findings = 0

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show on a terminal how far it has come."""
        console = Console(stderr=True, no_color=not self._output.colour)
        with console.status("reading the archive") as status:
            self._status = status if console.is_terminal else None
            yield
        self._status = None

    def add(self, checked: Checked) -> None:
        """Tell of one log."""
        self._logs += 1
        self._running += not checked.complete and not checked.findings
        self._segments += checked.segments
        self._records += checked.records
        self._size += checked.size
        for finding in checked.findings:
            self.tell(finding)
        if self._status is not None:
            self._status.update(self._sum)

    def tell(self, finding: Finding) -> None:
        """Write a finding."""
        self.findings += 1
        text = msgspec.json.encode(finding).decode() if self._as_json else harmless(_line(finding), styles=False)
        if self._status is not None:
            self._status.stop()
        self._output.write(f"{text}\n")
        if self._status is not None:
            self._status.start()

    def close(self) -> None:
        """Say the sum."""
        outcome = f"findings: {self.findings}" if self.findings else "nothing is damaged"
        running = f", {self._running} not complete yet" if self._running else ""
        self._output.note(f"{self._sum}{running}: {outcome}", failure=bool(self.findings))

    @property
    def _sum(self) -> str:
        size = f"{self._size / _MIB:.1f} MiB"
        return f"{self._logs} logs, {self._segments} segments, {self._records} records, {size} read"


def _line(finding: Finding) -> str:
    where = " ".join(filter(None, (f"task {finding.task_id}", finding.attempt and f"attempt {finding.attempt}")))
    return f"{where}: {f'segment {finding.segment}: ' if finding.segment else ''}{finding.what}"
