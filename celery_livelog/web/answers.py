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
from celery_livelog.errors import AccessError
from celery_livelog.permissions import ARCHIVE, DOWNLOAD, LIST
from celery_livelog.reader import Reader
from celery_livelog.run_answers import LINES, MOST_RUNS, RUNS, run_description, run_log
from celery_livelog.web.log_answer import Answer, form_of
from celery_livelog.web.log_query import LogQuery
from celery_livelog.web.refusal import Refusal as Refusal
from celery_livelog.web.run_log_answer import followed_run

#: Tasks of a list, by default and at most.
_TASKS, _MOST_TASKS = 100, 1000
#: What comes before the name of a run's field in the name of an argument.
_FIELD = "field."
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?\+00:00")
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that comes piece by piece, each when there is something new."""

    content_type: str
    pieces: AsyncIterator[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that is complete."""

    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


async def tasks(reader: Reader, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Running and recent tasks, the newest first, each by its latest attempt.

    :raises Refusal: when `limit` is not a number.
    """
    latest: dict[str, Attempt] = {}
    for attempt in await reader.recent(min(number(arguments, "limit", "tasks", _TASKS), _MOST_TASKS)):
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
    waits = (query.follow or query.wait) and not query.lines
    known = [] if waits else await _attempts(reader, task_id, query.action or ARCHIVE)
    if query.attempt and known and query.attempt > len(known):
        raise Refusal(404, "not found")
    answer = Answer(reader, task_id, query, known)
    if query.wait:
        try:
            body, ended = await answer.news()
        except AccessError:
            raise Refusal(404, "not found") from None
        return Whole(answer.form.content_type, body, {"Livelog-Ended": "1" if ended else "0"})
    return Streamed(answer.form.content_type, answer.pieces())


async def download(reader: Reader, task_id: str) -> Streamed:
    """The whole log, all attempts, as a text file.

    :raises Refusal: 404 as for `task`.
    """
    known = await _attempts(reader, task_id, DOWNLOAD)
    headers = {"Content-Disposition": f'attachment; filename="{file_name(task_id)}.log"'}
    return Streamed(_TEXT, Answer(reader, task_id, LogQuery(action=DOWNLOAD), known).pieces(), headers)


async def runs(reader: Reader, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Runs, the newest first; those that began before `before`, of an `account` and a `site`, if asked for.

    ``field.project_id=7`` asks for those that were begun with ``project_id=7``, and so on.

    :raises Refusal: when `limit` is not a number, or `before` not a time.
    """
    found = await reader.runs.recent(
        min(number(arguments, "limit", "runs", RUNS), MOST_RUNS),
        before=_before(arguments),
        account=arguments.get("account"),
        site=arguments.get("site"),
        fields={name.removeprefix(_FIELD): arguments[name] for name in arguments if name.startswith(_FIELD)},
    )
    return {"runs": [msgspec.structs.asdict(run) for run in found]}


async def run(reader: Reader, run_id: str) -> dict[str, Any]:
    """One run: how it stands, its tasks, its stages.

    :raises Refusal: 404 alike for a run that is unknown and one that may not be seen.
    """
    description = await run_description(reader.runs, run_id)
    if description is None:
        raise Refusal(404, "not found")
    return description


async def run_logs(reader: Reader, run_id: str, arguments: Mapping[str, str]) -> Whole:
    """The last `lines` lines of a run's log, of all its tasks, as text.

    :raises Refusal: 404 as for `run`; when `lines` is not a number.
    """
    text = await run_log(reader.runs, run_id, number(arguments, "lines", "lines", LINES))
    if text is None:
        raise Refusal(404, "not found")
    return Whole(_TEXT, text.encode(errors="backslashreplace"))


async def run_output(reader: Reader, run_id: str, arguments: Mapping[str, str]) -> Whole | Streamed:
    """The last lines of a run's log; with `follow` all of it, and what comes until the run is over.

    :raises Refusal: as `run_logs` and `log_query` do; one that follows waits for a run that has not begun.
    """
    query = run_query(arguments)
    if not query.follow:
        return await run_logs(reader, run_id, arguments)
    if query.format == "text":
        raise Refusal(400, "format is 'text'; expected ndjson or sse to follow a run")
    form = form_of(query)
    return Streamed(form.content_type, followed_run(reader, run_id, query, form))


def run_query(arguments: Mapping[str, str]) -> LogQuery:
    """What a URL asks of a run's log, where `lines` is how many of the last ones; raises as `log_query` does."""
    return log_query({name: arguments[name] for name in arguments if name != "lines"})


def log_query(arguments: Mapping[str, str]) -> LogQuery:
    """What a URL asks of a log.

    :raises Refusal: for an argument that cannot be used.
    """
    try:
        return LogQuery.parse(arguments)
    except ValueError as error:
        raise Refusal(400, str(error)) from None


def number(arguments: Mapping[str, str], name: str, what: str, default: int) -> int:
    """How many of `what` are asked for.

    :raises Refusal: when the argument `name` is given and not a number.
    """
    given = arguments.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", given):
        raise Refusal(400, f"{name} is {given[:60]!r}; expected a number of {what}")
    return int(given)


def file_name(identity: str) -> str:
    """The id of a task or run as a name that is harmless in a header and on a disk."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", identity)[:100].strip("._") or "task"


async def _attempts(reader: Reader, task_id: str, action: str = LIST) -> list[Attempt]:
    attempts = await reader.attempts(task_id, action=action)
    if not attempts:
        raise Refusal(404, "not found")
    return attempts


def _before(arguments: Mapping[str, str]) -> str | None:
    before = arguments.get("before")
    if before is None:
        return None
    before = before.replace(" ", "+")  # which is what an unquoted + in a URL says
    if not _TIME.fullmatch(before):
        raise Refusal(400, f"before is {before[:60]!r}; expected the `started` of a run")
    return before
