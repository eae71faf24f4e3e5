"""The tables of the catalog, as this version needs them."""

from __future__ import annotations

from sqlalchemy import Engine, inspect
from sqlalchemy.exc import DBAPIError

from celery_livelog.stores.models import Base


def make_ready(engine: Engine) -> None:
    """Create the tables that are absent."""
    for table in Base.metadata.sorted_tables:
        try:
            table.create(engine, checkfirst=True)
        except DBAPIError:
            if not inspect(engine).has_table(table.name):  # else another worker has made it just now
                raise
