"""Tasks and their attempts. The catalogs that were made then have no table that says of what version they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from celery_livelog.migrations.additions import add_index, columns
from celery_livelog.stores.column_types import ID, LONGEST_ID, STATE, TEXT, TIME, exact

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "livelog_tasks",
        sa.Column("task_id", ID, primary_key=True),
        *columns(TEXT, "name"),
        *columns(ID, "root_id", "parent_id", "group_id"),
        *columns(TIME, "first_started"),
        *columns(ID, "attempt"),
        *columns(TIME, "started", "ended"),
        *columns(STATE, "state"),
        *columns(exact(LONGEST_ID + 40), "version"),
        if_not_exists=True,
    )
    op.create_table(
        "livelog_attempts",
        sa.Column("attempt", ID, primary_key=True),
        *columns(ID, "task_id"),
        *columns(TEXT, "name", "worker"),
        *columns(sa.BigInteger(), "pid"),
        *columns(TEXT, "queue"),
        *columns(ID, "root_id", "parent_id", "group_id"),
        *columns(sa.BigInteger(), "retries"),
        *columns(sa.Boolean(), "redelivered"),
        *columns(TEXT, "args", "lease"),
        *columns(TIME, "started", "ended"),
        *columns(STATE, "state"),
        sa.Column("exit_code", sa.BigInteger(), nullable=True),
        *columns(TEXT, "reason"),
        *columns(sa.BigInteger(), "lines", "bytes", "skipped"),
        *columns(TEXT, "archive", "verbatim"),
        *columns(sa.SmallInteger(), "version"),
        if_not_exists=True,
    )
    add_index("livelog_tasks_newest", "livelog_tasks", ["started"])
    add_index("livelog_tasks_root", "livelog_tasks", ["root_id"])
    add_index("livelog_tasks_group", "livelog_tasks", ["group_id"])
    add_index("livelog_attempts_newest", "livelog_attempts", ["started", "attempt"])
    add_index("livelog_attempts_task", "livelog_attempts", ["task_id", "started"])
    add_index("livelog_attempts_running", "livelog_attempts", ["ended", "started"])
