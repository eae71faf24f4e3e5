"""Show the log of one task from where it was asked for to its end. Knows the reader and the printer, no terminal."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import click

from celery_livelog.attempts import Attempt
from celery_livelog.cli.printing import Printer
from celery_livelog.cursors import Cursor
from celery_livelog.permissions import ARCHIVE, LIVE, SEARCH
from celery_livelog.reader import Batch, Reader
from celery_livelog.records import FINAL_STATES, End, Line, Record
from celery_livelog.selection import Joiner, Selection, Tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for: all attempts or one, all lines or the last `tail`, what is there or what is to come too."""

    task_id: str
    attempt: int | None = None
    tail: int | None = None
    follow: bool = False


class Showing:
    """One showing of a log.

    :param whole_lines: join the pieces of overlong lines; without, a line of any length takes little memory.
    """

    def __init__(
        self, reader: Reader, request: Request, selection: Selection, printer: Printer, whole_lines: bool
    ) -> None:
        self._reader = reader
        self._request = request
        self._selection = selection
        self._printer = printer
        self._joiner = Joiner() if whole_lines else None
        self._attempts = 0
        self._ends: dict[int, End] = {}
        self._reading = LIVE if request.follow else ARCHIVE if selection.everything else SEARCH
        self._action = self._reading if selection.everything else SEARCH

    async def run(self) -> int:
        """Print the log.

        :returns: the task's exit code; 0 when it is not over.
        :raises click.ClickException: when there is no such log.
        """
        request = self._request
        attempts = await self._reader.attempts(request.task_id, action=self._reading)
        self._check(attempts)
        self._attempts = len(attempts[: request.attempt])
        self._printer.several = len(attempts) > 1 and request.attempt is None
        after = None
        if request.tail is not None:
            after = await self._print_tail(request.tail)
        if request.tail is None or (request.follow and not self._over):
            log = self._reader.log(
                request.task_id, after=after, attempt=request.attempt, follow=request.follow, action=self._action
            )
            async for batch in log:
                self._printer.print(batch.number, self._selected(batch))
                if request.attempt is not None and self._over:
                    break  # the task may go on: with another attempt
        return await self._outcome()

    def _check(self, attempts: list[Attempt]) -> None:
        """Tell apart a log to wait for and one that does not exist."""
        task_id, wanted = self._request.task_id, self._request.attempt
        if not attempts:
            if not self._request.follow:
                raise click.ClickException(f"nothing is known of a task {task_id}")
            self._printer.note(f"waiting for task {task_id} to start")
        elif wanted is not None and wanted > len(attempts) and not self._request.follow:
            raise click.ClickException(f"task {task_id} has no attempt {wanted}; the last one is {len(attempts)}")

    async def _print_tail(self, count: int) -> Cursor | None:
        """Print the last lines of what is there now, and give the place where they end."""
        request, tail, after = self._request, Tail(count), None
        # The reader counts the records of all attempts: whatever is selected may be further back. At least one
        # record is read, as it tells the place to go on from.
        enough = max(1, count) if self._selection.everything and request.attempt is None else None
        log = self._reader.log(request.task_id, attempt=request.attempt, tail=enough, action=self._action)
        async for batch in log:
            for record in self._selected(batch):
                tail.feed(batch.number, record)
            after = _place_after(batch) or after
        if self._joiner is not None:
            self._joiner.forget()  # an unfinished line comes again: `after` is the place before it
        for number, records in groupby(tail.records, key=lambda numbered: numbered[0]):
            self._printer.print(number, [record for _, record in records])
        return after

    def _selected(self, batch: Batch) -> list[Record]:
        selected: list[Record] = []
        self._attempts = max(self._attempts, batch.number)
        for record in batch.records:
            if isinstance(record, End):
                self._ends[batch.number] = record
            whole = self._joiner.feed(batch.number, record) if self._joiner is not None else record
            if whole is not None and self._selection.keeps(batch.number, whole):
                selected.append(whole)
        return selected

    @property
    def _end(self) -> End | None:
        """How the last attempt ended; one before it may have been lost, and the task delivered again."""
        return self._ends.get(self._attempts)

    @property
    def _over(self) -> bool:
        return self._end is not None and (self._end.final or self._request.attempt is not None)

    async def _outcome(self) -> int:
        """The exit code; a task that printed nothing has no log that would tell it."""
        self._printer.close()
        if self._end is not None and self._end.final:
            return self._end.exit_code
        known = await self._reader.attempts(self._request.task_id, action=self._reading)
        attempts = known[: self._request.attempt]
        if not attempts or attempts[-1].running or attempts[-1].state not in FINAL_STATES:
            return 0
        last = attempts[-1]
        self._printer.outcome(last.state, last.reason)
        return last.exit_code if last.exit_code is not None else int(last.state != "SUCCESS")


def _place_after(batch: Batch) -> Cursor | None:
    """The place after the last record of `batch` that does not wait for the rest of its line."""
    for record in reversed(batch.records):
        if not (isinstance(record, Line) and record.more):
            return Cursor(batch.attempt, record.n)
    return None
