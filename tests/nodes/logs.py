"""What a test wants to know of logs: read as a server reads them, once they are where they belong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from celery_livelog.attempts import Attempt
from celery_livelog.reader import Reader
from celery_livelog.records import End, Gap, Line, Record
from tests.nodes.project import Project
from tests.nodes.waiting import wait_for

T = TypeVar("T")


def ask(project: Project, question: Callable[[Reader], Awaitable[T]]) -> T:
    """Ask a reader that has the project's settings."""

    async def asked() -> T:
        reader = Reader(project.settings)
        try:
            return await question(reader)
        finally:
            await reader.close()

    return asyncio.run(asked())


def attempts(project: Project, task_id: str) -> list[Attempt]:
    """All attempts of a task."""
    return ask(project, lambda reader: reader.attempts(task_id))


def records(project: Project, task_id: str, *, follow: bool = False) -> list[Record]:
    """A task's records as they can be read now, or followed to its end."""

    async def read(reader: Reader) -> list[Record]:
        return [record async for batch in reader.log(task_id, follow=follow) for record in batch.records]

    return ask(project, read)


def archived(project: Project, task_id: str, count: int = 1) -> list[Record]:
    """A task's records, once `count` attempts of it have ended and are archived."""

    def ended() -> bool:
        known = attempts(project, task_id)
        return len(known) >= count and all(attempt.ended and attempt.archive for attempt in known)

    wait_for(ended, what=f"the archive of {task_id}")
    return records(project, task_id)


def lines(found: list[Record], stream: str = "") -> list[str]:
    """The text of the lines among records, of one stream or all."""
    return [record.line for record in found if isinstance(record, Line) and stream in ("", record.stream)]


def end(found: list[Record]) -> End:
    """The last record, which says how the attempt ended."""
    assert isinstance(found[-1], End), found[-3:]
    return found[-1]


def skipped(found: list[Record]) -> int:
    """How many records the gaps among `found` stand for."""
    return sum(record.skipped for record in found if isinstance(record, Gap))
