"""The HTTP API without a server: a reader and the arguments of a URL in, what to answer out.

Whoever serves it gives a reader that holds only what this viewer may see.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.errors import LivelogError
from celery_livelog.reader import Reader
from celery_livelog.runs import RunView
from celery_livelog.web.log_answer import Answer
from celery_livelog.web.log_query import LogQuery

#: Entries of a list, by default and at most.
_ENTRIES, _MOST_ENTRIES = 100, 1000
#: Lines of a run's log at most.
_MOST_LINES = 10_000
#: What comes before the name of a run's field in the name of an argument.
_FIELD = "field."
_TEXT, _JSON_LINES = "text/plain; charset=utf-8", "application/x-ndjson"


class Refusal(LivelogError):
    """Raised when a request is not answered with 200; its text says why and what to do."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that comes piece by piece, each when there is something new."""

    content_type: str
    pieces: AsyncIterator[bytes]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that is complete."""

    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


async def tasks(reader: Reader, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Running and recent tasks, the newest first, each by its latest attempt.

    :raises Refusal: when `limit` is not a number.
    """
    latest: dict[str, Attempt] = {}
    for attempt in await reader.recent(number(arguments, "limit", "tasks")):
        latest.setdefault(attempt.task_id, attempt)
    return {"tasks": [msgspec.structs.asdict(attempt) for attempt in latest.values()]}


async def task(reader: Reader, task_id: str) -> dict[str, Any]:
    """One task: its state and all its attempts.

    :raises Refusal: 404 alike for a task that is unknown and one that may not be seen.
    """
    attempts = await _attempts(reader, task_id)
    return {
        "task_id": task_id,
        "state": attempts[-1].state,
        "attempts": [msgspec.structs.asdict(attempt) for attempt in attempts],
    }


async def log(reader: Reader, task_id: str, query: LogQuery) -> Whole | Streamed:
    """A task's log, whole or filtered, at once, followed or by long-poll.

    :raises Refusal: 404 as for `task`, unless the answer can wait for a task that has not started.
    """
    content_type = _JSON_LINES if query.format == "ndjson" else _TEXT
    if query.wait:
        body, ended = await Answer(reader, task_id, query, []).news()
        return Whole(content_type, body, {"Livelog-Ended": "1" if ended else "0"})
    known = [] if query.follow and not query.lines else await _attempts(reader, task_id)
    if query.attempt and known and query.attempt > len(known):
        raise Refusal(404, "not found")
    return Streamed(content_type, Answer(reader, task_id, query, known).pieces())


async def download(reader: Reader, task_id: str) -> Streamed:
    """The whole log, all attempts, as a text file.

    :raises Refusal: 404 as for `task`.
    """
    known = await _attempts(reader, task_id)
    headers = {"Content-Disposition": f'attachment; filename="{file_name(task_id)}.log"'}
    return Streamed(_TEXT, Answer(reader, task_id, LogQuery(), known).pieces(), headers)


async def runs(reader: Reader, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Runs, the newest first; those that began before `before`, of an `account` and a `site`, if asked for.

    ``field.project_id=7`` asks for those that were begun with ``project_id=7``, and so on.

    :raises Refusal: when `limit` is not a number.
    """
    before, account, site = (arguments.get(name) or None for name in ("before", "account", "site"))
    limit = number(arguments, "limit", "runs")
    fields = {name.removeprefix(_FIELD): arguments[name] for name in arguments if name.startswith(_FIELD)}
    found = await reader.runs.recent(limit, before=before, account=account, site=site, fields=fields)
    return {"runs": [msgspec.structs.asdict(run) for run in found]}


async def run(reader: Reader, run_id: str) -> dict[str, Any]:
    """One run, its stages and the attempts of its tasks.

    :raises Refusal: 404 alike for a run that is unknown and one that may not be seen.
    """
    found = await _run(reader, run_id)
    stages, attempts = await reader.runs.stages(run_id), await reader.runs.attempts(run_id)
    return {
        **msgspec.structs.asdict(found),
        "stages": [msgspec.structs.asdict(stage) for stage in stages],
        "attempts": [msgspec.structs.asdict(attempt) for attempt in attempts],
    }


async def run_logs(reader: Reader, run_id: str, arguments: Mapping[str, str]) -> Whole:
    """The newest `lines` lines of what all tasks of a run printed, in order of time, each with its time and task.

    :raises Refusal: 404 as for `run`, and when `lines` is not a number.
    """
    lines = number(arguments, "lines", "lines", most=_MOST_LINES)
    await _run(reader, run_id)
    told = [
        f"{record.timestamp} {attempt.name.rpartition('.')[2] or 'task'}[{attempt.task_id[:8]}] {line}"
        for attempt, record in await reader.runs.tail(run_id, lines)
        for line in record.text.split("\n")
    ]
    text = "".join(f"{line}\n" for line in told[-lines:]) if lines else ""
    return Whole(_TEXT, text.encode(errors="backslashreplace"))


def log_query(arguments: Mapping[str, str]) -> LogQuery:
    """What a URL asks of a log.

    :raises Refusal: for an argument that cannot be used.
    """
    try:
        return LogQuery.parse(arguments)
    except ValueError as error:
        raise Refusal(400, str(error)) from None


def number(arguments: Mapping[str, str], name: str, what: str, most: int = _MOST_ENTRIES) -> int:
    """How many of `what` are asked for; at most `most` are given.

    :raises Refusal: when the argument `name` is given and not a number.
    """
    given = arguments.get(name, str(_ENTRIES))
    if not re.fullmatch(r"[0-9]{1,6}", given):
        raise Refusal(400, f"{name} is {given[:60]!r}; expected a number of {what}")
    return min(int(given), most)


def file_name(identity: str) -> str:
    """The id of a task or run as a name that is harmless in a header and on a disk."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", identity)[:100].strip("._") or "task"


async def _attempts(reader: Reader, task_id: str) -> list[Attempt]:
    attempts = await reader.attempts(task_id)
    if not attempts:
        raise Refusal(404, "not found")
    return attempts


async def _run(reader: Reader, run_id: str) -> RunView:
    found = await reader.runs.get(run_id)
    if found is None:
        raise Refusal(404, "not found")
    return found
