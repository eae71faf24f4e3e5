"""The four tables of the catalog, public: an app may query them and join its own to them. Knows no database.

Times are text, as `records.utc` writes it (ISO 8601, UTC, microseconds, always 32 characters): it sorts and compares
by time in every database alike, where real timestamps lose zone or microseconds in one or the other. Empty: not yet.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import BigInteger, Boolean, Double, Index, SmallInteger
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from celery_livelog.stores.column_types import ID, LONGEST_ID, STATE, TEXT, TIME, exact

_HASHED = "sha256:"


def stored_id(value: str) -> str:
    """Give the form in which the tables hold an id, an account or a site: nearly always the text itself.

    One that some database would refuse, cut or take for another (long, with spaces around it, NUL or other
    control characters, surrogates) is held as its hash, in a form that no plain one has.
    """
    if len(value) <= LONGEST_ID and value.isprintable() and value == value.strip() and not value.startswith(_HASHED):
        return value
    return _HASHED + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


class Base(DeclarativeBase):
    """What the tables of the catalog have in common: their `metadata`."""


class TaskRow(Base):
    """A task and its latest attempt."""

    __tablename__ = "livelog_tasks"

    task_id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(TEXT)
    root_id: Mapped[str] = mapped_column(ID)
    parent_id: Mapped[str] = mapped_column(ID)
    group_id: Mapped[str] = mapped_column(ID)
    run_id: Mapped[str] = mapped_column(ID, server_default="")
    account: Mapped[str] = mapped_column(ID, server_default="")
    site: Mapped[str] = mapped_column(ID, server_default="")
    #: When the first attempt started; all that follows is of the latest.
    first_started: Mapped[str] = mapped_column(TIME)
    attempt: Mapped[str] = mapped_column(ID)
    started: Mapped[str] = mapped_column(TIME)
    ended: Mapped[str] = mapped_column(TIME)
    state: Mapped[str] = mapped_column(STATE)
    #: Sorts by start of the attempt, then by how much was known of it; see `AttemptRow.version`.
    version: Mapped[str] = mapped_column(exact(LONGEST_ID + 40))

    __table_args__ = (
        Index("livelog_tasks_newest", "started"),
        Index("livelog_tasks_root", "root_id"),
        Index("livelog_tasks_group", "group_id"),
        Index("livelog_tasks_run", "run_id"),
    )


class AttemptRow(Base):
    """All that is known of one attempt: the columns are the fields of `celery_livelog.attempts.Attempt`."""

    __tablename__ = "livelog_attempts"

    attempt: Mapped[str] = mapped_column(ID, primary_key=True)
    task_id: Mapped[str] = mapped_column(ID)
    name: Mapped[str] = mapped_column(TEXT)
    worker: Mapped[str] = mapped_column(TEXT)
    pid: Mapped[int] = mapped_column(BigInteger)
    queue: Mapped[str] = mapped_column(TEXT)
    root_id: Mapped[str] = mapped_column(ID)
    parent_id: Mapped[str] = mapped_column(ID)
    group_id: Mapped[str] = mapped_column(ID)
    run_id: Mapped[str] = mapped_column(ID, server_default="")
    account: Mapped[str] = mapped_column(ID, server_default="")
    site: Mapped[str] = mapped_column(ID, server_default="")
    retries: Mapped[int] = mapped_column(BigInteger)
    redelivered: Mapped[bool] = mapped_column(Boolean)
    args: Mapped[str] = mapped_column(TEXT)
    lease: Mapped[str] = mapped_column(TEXT)
    started: Mapped[str] = mapped_column(TIME)
    ended: Mapped[str] = mapped_column(TIME)
    state: Mapped[str] = mapped_column(STATE)
    exit_code: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(TEXT)
    lines: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    skipped: Mapped[int] = mapped_column(BigInteger)
    archive: Mapped[str] = mapped_column(TEXT)
    #: JSON of the fields whose true text a column cannot hold, by name; nearly always empty.
    verbatim: Mapped[str] = mapped_column(TEXT)
    #: How much is known: 2 for its end, 1 for the place of its log.
    version: Mapped[int] = mapped_column(SmallInteger)

    __table_args__ = (
        Index("livelog_attempts_newest", "started", "attempt"),
        Index("livelog_attempts_task", "task_id", "started"),
        Index("livelog_attempts_run", "run_id", "started"),
        Index("livelog_attempts_running", "ended", "started"),  # running: `ended` is empty
    )


class RunRow(Base):
    """A run that has been begun, has a stage, or has tasks that another task or a canvas brought about.

    Two accounts may use one run id: to each its own row. What its tasks make of it, `TaskRow` tells.
    """

    __tablename__ = "livelog_runs"

    run_id: Mapped[str] = mapped_column(ID, primary_key=True)
    account: Mapped[str] = mapped_column(ID, primary_key=True)
    site: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(TEXT)
    #: A JSON object of texts: what else it was begun with.
    fields: Mapped[str] = mapped_column(TEXT)
    #: Whether it was begun with ``run(…)``; of any other, the columns up to `started` are all that is known.
    named: Mapped[bool] = mapped_column(Boolean)
    started: Mapped[str] = mapped_column(TIME)
    #: SUCCESS or FAILURE when it has ended.
    state: Mapped[str] = mapped_column(STATE)
    ended: Mapped[str] = mapped_column(TIME)
    error: Mapped[str] = mapped_column(TEXT)
    verbatim: Mapped[str] = mapped_column(TEXT)
    #: How much is known: 1 that it was begun, 2 and when how it ended.
    version: Mapped[str] = mapped_column(exact(40))

    __table_args__ = (
        Index("livelog_runs_newest", "started", "run_id"),
        Index("livelog_runs_scope", "account", "started", "run_id"),
    )


class StageRow(Base):
    """A stage of an attempt and how far it has come: the columns are the fields of `celery_livelog.runs.Stage`."""

    __tablename__ = "livelog_stages"

    attempt: Mapped[str] = mapped_column(ID, primary_key=True)
    stage: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    task_id: Mapped[str] = mapped_column(ID)
    run_id: Mapped[str] = mapped_column(ID)
    account: Mapped[str] = mapped_column(ID)
    site: Mapped[str] = mapped_column(ID)
    name: Mapped[str] = mapped_column(TEXT)
    #: running, complete, error or interrupted
    state: Mapped[str] = mapped_column(STATE)
    started: Mapped[str] = mapped_column(TIME)
    ended: Mapped[str] = mapped_column(TIME)
    pending: Mapped[int | None] = mapped_column(BigInteger)
    done: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int | None] = mapped_column(BigInteger)
    message: Mapped[str] = mapped_column(TEXT)
    #: Seconds.
    elapsed: Mapped[float | None] = mapped_column(Double)
    #: JSON; empty without a result.
    result: Mapped[str] = mapped_column(TEXT)
    error: Mapped[str] = mapped_column(TEXT)
    updated: Mapped[str] = mapped_column(TIME)
    verbatim: Mapped[str] = mapped_column(TEXT)
    #: The number of the record that told it.
    version: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        Index("livelog_stages_run", "run_id", "started"),
        Index("livelog_stages_task", "task_id", "started"),
    )
