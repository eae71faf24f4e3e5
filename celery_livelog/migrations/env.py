"""What Alembic runs to bring a catalog to another version, on a connection and in a transaction that `schema` gives."""

from __future__ import annotations

from alembic import context

from celery_livelog.stores.models import Base
from celery_livelog.stores.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE.name,
)
context.run_migrations()
