"""Begins runs, and takes them along: from the code that sends tasks, or a task, to all tasks that it sends.

`current_run` says which run the running code belongs to; it is a context variable, as `writer.current` is.
"""

from __future__ import annotations

import secrets
from contextvars import ContextVar, Token
from datetime import datetime, timezone
from time import monotonic, time_ns
from types import TracebackType
from typing import Any

import msgspec
from celery.exceptions import TaskPredicate

from celery_livelog.errors import said
from celery_livelog.events import shown, write
from celery_livelog.records import utc
from celery_livelog.runs import HEADER, LONGEST, Run, from_header, new_run_id, of_canvas
from celery_livelog.writer import AttemptWriter, current

current_run: ContextVar[Run | None] = ContextVar("livelog_run", default=None)


class run:  # noqa: N801 - reads as a statement, ``with run(account="a1"):``
    """A pipeline or workflow: ``with run(account="a1", site="s7", name="nightly") as r:``.

    All tasks that are sent within belong to it, and all that these send, through chains, groups, chords, retries and
    ``replace``. In a task, its stages and how it ends belong to it too. What is not text is taken as text, and of each
    text the first 200 characters.

    :param run_id: its id; one like ``run_20240620_163055_3f2a90`` is made unless given.
    :param name: what people call it.
    :param account: whose it is; together with `site` the scope in which it may be seen.
    :param fields: what else names it, such as ``user_id``; run directories may be named after these.
    """

    def __init__(self, run_id: str = "", *, name: str = "", account: str = "", site: str = "", **fields: Any) -> None:
        started = time_ns()
        made = new_run_id(datetime.fromtimestamp(started // 1_000_000_000, timezone.utc), secrets.token_hex(3))
        self._run = Run(
            run_id=_text(run_id) or made,
            name=_text(name),
            account=_text(account),
            site=_text(site),
            fields={field[:LONGEST]: _text(value) for field, value in fields.items()},
            started=utc(started),
        )
        self._entered: list[tuple[Token[Run | None], AttemptWriter | None, float]] = []

    def __enter__(self) -> Run:
        writer = current.get()
        self._entered.append((current_run.set(self._run), writer, monotonic()))
        write(writer, {"type": "run_start", **msgspec.to_builtins(self._run)})
        return self._run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, writer, started = self._entered.pop()
        leave(token)
        if isinstance(error, TaskPredicate):
            return  # the task is retried, replaced or rejected: the run goes on without it, or does not
        ending = {"state": "SUCCESS" if error is None else "FAILURE", "elapsed": round(monotonic() - started, 6)}
        why = {} if error is None else {"error": said(error)}
        write(writer, {"type": "run_end", "run_id": self._run.run_id, **ending, **why})


def leave(token: Token[Run | None]) -> None:
    """Undo what ``current_run.set`` did."""
    try:
        current_run.reset(token)
    except ValueError:  # set in another context
        current_run.set(None)


def of_request(request: Any) -> Run:
    """The run that a task belongs to, by its request."""
    run = from_header(getattr(request, HEADER, None))
    group_id = request.group or ""
    return run or of_canvas(str(request.id), str(request.root_id or ""), str(group_id), request.chain)


def take_along(headers: dict[str, Any]) -> None:
    """Name the run in the headers of a message that is sent from within it."""
    run = current_run.get()
    if run is not None and HEADER not in headers:
        headers[HEADER] = msgspec.to_builtins(run)


def _text(value: Any) -> str:
    return "" if value is None else shown(value)[:LONGEST].encode("utf-8", "backslashreplace").decode()
