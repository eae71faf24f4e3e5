"""What scripts add, where it is absent: a process may have been killed halfway, on a database that keeps the half."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy import Column, inspect
from sqlalchemy.types import TypeEngine


def add_columns(table: str, columns: Sequence[Column[Any]]) -> None:
    """Add to a table those columns that it does not have."""
    there = {column["name"] for column in inspect(op.get_bind()).get_columns(table)}
    for column in columns:
        if column.name not in there:
            op.add_column(table, column)


def add_index(name: str, table: str, columns: Sequence[str]) -> None:
    """Add an index to a table that does not have it."""
    if name not in {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def columns(kind: TypeEngine[Any], *names: str) -> list[Column[Any]]:
    """Columns of one type that are never NULL."""
    return [Column(name, kind, nullable=False) for name in names]
