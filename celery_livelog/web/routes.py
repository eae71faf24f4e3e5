"""The HTTP API as a table: a path and the arguments of a URL in, an answer out."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from celery_livelog.reader import Reader
from celery_livelog.web import answers
from celery_livelog.web.answers import Streamed, Whole
from celery_livelog.web.refusal import Refusal

_Arguments = Mapping[str, str]


async def answer(reader: Reader, path: str, arguments: _Arguments) -> Whole | Streamed:
    """What is answered to a path below ``/api``, still percent-encoded.

    :raises Refusal: also when there is no such route.
    """
    for pattern, route in _ROUTES:
        match = pattern.fullmatch(path)
        if match:
            return await route(reader, unquote(match[1], errors="replace") if match.groups() else "", arguments)
    raise Refusal(404, "not found")


def json(content: Any, status: int = 200) -> Whole:
    """An answer as JSON."""
    return Whole("application/json", msgspec.json.encode(content), status=status)


async def _tasks(reader: Reader, _: str, arguments: _Arguments) -> Whole:
    return json(await answers.tasks(reader, arguments))


async def _task(reader: Reader, task_id: str, _: _Arguments) -> Whole:
    return json(await answers.task(reader, task_id))


async def _log(reader: Reader, task_id: str, arguments: _Arguments) -> Whole | Streamed:
    return await answers.log(reader, task_id, answers.log_query(arguments))


async def _download(reader: Reader, task_id: str, _: _Arguments) -> Streamed:
    return await answers.download(reader, task_id)


async def _runs(reader: Reader, _: str, arguments: _Arguments) -> Whole:
    return json(await answers.runs(reader, arguments))


async def _run(reader: Reader, run_id: str, _: _Arguments) -> Whole:
    return json(await answers.run(reader, run_id))


async def _run_logs(reader: Reader, run_id: str, arguments: _Arguments) -> Whole | Streamed:
    return await answers.run_output(reader, run_id, arguments)


_TASK, _RUN = "/tasks/([^/]+)", "/runs/([^/]+)"
_ROUTES: list[tuple[re.Pattern[str], Callable[[Reader, str, _Arguments], Awaitable[Whole | Streamed]]]] = [
    (re.compile("/tasks"), _tasks),
    (re.compile(_TASK), _task),
    (re.compile(_TASK + "/log"), _log),
    (re.compile(_TASK + "/download"), _download),
    (re.compile("/runs"), _runs),
    (re.compile(_RUN), _run),
    (re.compile(_RUN + "/logs"), _run_logs),
]
