"""The one statement by which a row comes into a table of the catalog.

It is inserted, or updates the row that is there where the new one knows as much or more: whatever the order in which
two arrive, and however often each does, the same row stands in the end.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Table, case
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql import Insert
from sqlalchemy.sql.base import ReadOnlyColumnCollection

#: Columns in which the least counts, whoever knows more.
_LEAST = {("livelog_tasks", "first_started"), ("livelog_runs", "started")}


def upsert(database: str, table: Table) -> Insert:
    """Insert a row, or update the one that is there where the new one knows as much or more."""
    if database in ("mysql", "mariadb"):
        into_mysql = mysql.insert(table)
        # MySQL assigns from left to right: `version`, which decides for all the others, is the last column.
        return into_mysql.on_duplicate_key_update(_merged(table, into_mysql.inserted))
    into = sqlite.insert(table) if database == "sqlite" else postgresql.insert(table)
    return into.on_conflict_do_update(index_elements=table.primary_key, set_=dict(_merged(table, into.excluded)))


def _merged(
    table: Table, new: ReadOnlyColumnCollection[str, ColumnElement[Any]]
) -> list[tuple[str, ColumnElement[Any]]]:
    newer = new["version"] >= table.c.version
    merged: list[tuple[str, ColumnElement[Any]]] = []
    for column in table.columns:
        if not column.primary_key:
            counts = new[column.name] < column if (table.name, column.name) in _LEAST else newer
            merged.append((column.name, case((counts, new[column.name]), else_=column)))
    return merged
