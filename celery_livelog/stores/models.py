"""The two tables of the catalog, public: an app may query them and join its own to them. Knows no database.

Times are text, as `records.utc` writes it (ISO 8601, UTC, microseconds, always 32 characters): it sorts and compares
by time in every database alike, where real timestamps lose zone or microseconds in one or the other. Empty: not yet.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import BigInteger, Boolean, Index, SmallInteger, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_LONGEST_ID = 200  # characters; at 4 bytes each still short enough for an index in every database
_HASHED = "sha256:"


def _exact(length: int) -> String:
    """Text of up to `length` characters; MySQL would by default take "A", "a" and "ä" for one."""
    return String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


_Id = _exact(_LONGEST_ID)
_Time = _exact(32)
_State = _exact(32)
_Text = Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")  # their TEXT ends at 64 KiB


def stored_id(value: str) -> str:
    """Give the form in which the tables hold a task, root, parent or group id: nearly always the id itself.

    One that some database would refuse, cut or take for another (long, with spaces, NUL or other
    control characters, surrogates) is held as its hash, in a form that no plain id has.
    """
    if len(value) <= _LONGEST_ID and value.isprintable() and " " not in value and not value.startswith(_HASHED):
        return value
    return _HASHED + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


class Base(DeclarativeBase):
    """What the tables of the catalog have in common: their `metadata`."""


class TaskRow(Base):
    """A task and its latest attempt."""

    __tablename__ = "livelog_tasks"

    task_id: Mapped[str] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(_Text)
    root_id: Mapped[str] = mapped_column(_Id)
    parent_id: Mapped[str] = mapped_column(_Id)
    group_id: Mapped[str] = mapped_column(_Id)
    run_id: Mapped[str] = mapped_column(_Id)
    account: Mapped[str] = mapped_column(_Id)
    site: Mapped[str] = mapped_column(_Id)
    #: When the first attempt started; all that follows is of the latest.
    first_started: Mapped[str] = mapped_column(_Time)
    attempt: Mapped[str] = mapped_column(_Id)
    started: Mapped[str] = mapped_column(_Time)
    ended: Mapped[str] = mapped_column(_Time)
    state: Mapped[str] = mapped_column(_State)
    #: Sorts by start of the attempt, then by how much was known of it; see `AttemptRow.version`.
    version: Mapped[str] = mapped_column(_exact(_LONGEST_ID + 40))

    __table_args__ = (
        Index("livelog_tasks_newest", "started"),
        Index("livelog_tasks_root", "root_id"),
        Index("livelog_tasks_group", "group_id"),
        Index("livelog_tasks_run", "run_id"),
    )


class AttemptRow(Base):
    """All that is known of one attempt: the columns are the fields of `celery_livelog.attempts.Attempt`."""

    __tablename__ = "livelog_attempts"

    attempt: Mapped[str] = mapped_column(_Id, primary_key=True)
    task_id: Mapped[str] = mapped_column(_Id)
    name: Mapped[str] = mapped_column(_Text)
    worker: Mapped[str] = mapped_column(_Text)
    pid: Mapped[int] = mapped_column(BigInteger)
    queue: Mapped[str] = mapped_column(_Text)
    root_id: Mapped[str] = mapped_column(_Id)
    parent_id: Mapped[str] = mapped_column(_Id)
    group_id: Mapped[str] = mapped_column(_Id)
    run_id: Mapped[str] = mapped_column(_Id)
    account: Mapped[str] = mapped_column(_Id)
    site: Mapped[str] = mapped_column(_Id)
    retries: Mapped[int] = mapped_column(BigInteger)
    redelivered: Mapped[bool] = mapped_column(Boolean)
    args: Mapped[str] = mapped_column(_Text)
    lease: Mapped[str] = mapped_column(_Text)
    started: Mapped[str] = mapped_column(_Time)
    ended: Mapped[str] = mapped_column(_Time)
    state: Mapped[str] = mapped_column(_State)
    exit_code: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(_Text)
    lines: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    skipped: Mapped[int] = mapped_column(BigInteger)
    archive: Mapped[str] = mapped_column(_Text)
    #: JSON of the fields whose true text a column cannot hold, by name; nearly always empty.
    verbatim: Mapped[str] = mapped_column(_Text)
    #: How much is known: 2 for its end, 1 for the place of its log.
    version: Mapped[int] = mapped_column(SmallInteger)

    __table_args__ = (
        Index("livelog_attempts_newest", "started", "attempt"),
        Index("livelog_attempts_task", "task_id", "started"),
        Index("livelog_attempts_running", "ended", "started"),  # running: `ended` is empty
    )
