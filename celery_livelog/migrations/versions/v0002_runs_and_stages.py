"""Runs and stages, and to which run tasks and attempts belong."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from celery_livelog.migrations.additions import add_columns, add_index, columns
from celery_livelog.stores.column_types import ID, STATE, TEXT, TIME, exact

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is absent."""
    for table in ("livelog_tasks", "livelog_attempts"):
        scope = ("run_id", "account", "site")
        add_columns(table, [sa.Column(name, ID, nullable=False, server_default="") for name in scope])
    _make_runs()
    _make_stages()
    add_index("livelog_tasks_run", "livelog_tasks", ["run_id"])
    add_index("livelog_attempts_run", "livelog_attempts", ["run_id", "started"])
    add_index("livelog_runs_newest", "livelog_runs", ["started", "run_id"])
    add_index("livelog_runs_scope", "livelog_runs", ["account", "started", "run_id"])
    add_index("livelog_stages_run", "livelog_stages", ["run_id", "started"])
    add_index("livelog_stages_task", "livelog_stages", ["task_id", "started"])


def _make_runs() -> None:
    op.create_table(
        "livelog_runs",
        sa.Column("run_id", ID, primary_key=True),
        sa.Column("account", ID, primary_key=True),
        sa.Column("site", ID, primary_key=True),
        *columns(TEXT, "name", "fields"),
        *columns(sa.Boolean(), "named"),
        *columns(TIME, "started"),
        *columns(STATE, "state"),
        *columns(TIME, "ended"),
        *columns(TEXT, "error", "verbatim"),
        *columns(exact(40), "version"),
        if_not_exists=True,
    )


def _make_stages() -> None:
    op.create_table(
        "livelog_stages",
        sa.Column("attempt", ID, primary_key=True),
        sa.Column("stage", sa.BigInteger(), primary_key=True, autoincrement=False),
        *columns(ID, "task_id", "run_id", "account", "site"),
        *columns(TEXT, "name"),
        *columns(STATE, "state"),
        *columns(TIME, "started", "ended"),
        sa.Column("pending", sa.BigInteger(), nullable=True),
        *columns(sa.BigInteger(), "done"),
        sa.Column("total", sa.BigInteger(), nullable=True),
        *columns(TEXT, "message"),
        sa.Column("elapsed", sa.Double(), nullable=True),
        *columns(TEXT, "result", "error"),
        *columns(TIME, "updated"),
        *columns(TEXT, "verbatim"),
        *columns(sa.BigInteger(), "version"),
        if_not_exists=True,
    )
