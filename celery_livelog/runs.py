"""What is known of runs and of the stages in them: one shape in journal, catalog, API and pages. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

#: The message header by which a run travels from task to task.
HEADER = "livelog_run"
#: Characters of each text of a run: it is in every message.
LONGEST = 200
#: Characters of a time.
_TIME = 32


class Run(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A pipeline or workflow that tasks and stages belong to, as the code that began it has named it.

    A canvas that nobody has named is a run too; of that, only the id is known. Times are ISO 8601 UTC.
    """

    run_id: str
    name: str = ""
    #: Whose it is: the scope in which it may be seen.
    account: str = ""
    site: str = ""
    #: What else it was begun with, such as a user's or a project's id; the templates of run directories may use it.
    fields: dict[str, str] = {}
    started: str = ""

    @property
    def named(self) -> bool:
        """Whether somebody has begun it with ``run(…)``."""
        return bool(self.started)


class RunEntry(Run, kw_only=True, omit_defaults=True):
    """A run as the catalog holds it: as it was begun, and how its ``run_end`` says that it ended.

    `started` of one that nobody has named is when its first task did.
    """

    named: bool = False
    #: SUCCESS or FAILURE; empty until its end is in, and for ever when nobody has named it.
    state: str = ""
    ended: str = ""
    error: str = ""


class RunView(RunEntry, kw_only=True, omit_defaults=True):
    """A run and what its tasks make of it. `state` is RUNNING, SUCCESS or FAILURE."""

    state: str = "RUNNING"
    #: How many tasks there are, and how many of them run or wait for another try, or have failed.
    tasks: int = 0
    running: int = 0
    failed: int = 0


class Stage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A step of an attempt and how far it has come. `state` is running, complete, error or interrupted."""

    attempt: str
    stage: int
    task_id: str
    #: The run that it belongs to, and whose that is.
    run_id: str = ""
    account: str = ""
    site: str = ""
    name: str = ""
    state: str = "running"
    started: str = ""
    ended: str = ""
    pending: int | None = None
    done: int = 0
    total: int | None = None
    message: str = ""
    #: Seconds.
    elapsed: float | None = None
    result: Any = None
    error: str = ""
    #: When it was last heard of, and the number of the record that told it.
    updated: str = ""
    n: int = 0


def new_run_id(now: datetime, suffix: str) -> str:
    """The id of a run that begins now: ``run_20240620_163055_3f2a90``."""
    return f"run_{now:%Y%m%d_%H%M%S}_{suffix}"


def from_header(header: Any) -> Run | None:
    """The run of a message; None when it has none, or one that is not of our making."""
    if header is None:
        return None
    try:
        run = msgspec.convert(header, Run)
    except msgspec.ValidationError:
        return None
    texts = (run.run_id, run.name, run.account, run.site, run.started, *run.fields, *run.fields.values())
    return run if run.run_id and len(run.started) <= _TIME and all(len(text) <= LONGEST for text in texts) else None


def of_canvas(task_id: str, root_id: str, group_id: str, chain: Any) -> Run:
    """The run of a task whose message names none, by its place in a canvas.

    Tasks of one chain share the first one's id as `root_id`. Those at the top of a group or chord are their own roots;
    what they share is the group, and of a chain in a group only the last task has that.

    :param chain: the signatures of what follows the task in its chain, the next one last, as Celery's requests have it.
    """
    if root_id and root_id != task_id:
        return Run(run_id=root_id)
    return Run(run_id=group_id or _group_of_last(chain) or task_id)


def _group_of_last(chain: Any) -> str:
    last = chain[0] if isinstance(chain, list) and chain else None
    options = last.get("options") if isinstance(last, Mapping) else None
    group_id = options.get("group_id") if isinstance(options, Mapping) else None
    return group_id if isinstance(group_id, str) else ""
