"""Whether a task is already another account's: then no writer from elsewhere may add to it."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.exc import SQLAlchemyError

from celery_livelog.access.tokens import Writer
from celery_livelog.attempts import Attempt
from celery_livelog.errors import SchemaError, StoreError
from celery_livelog.ingest.writers import NotYours, check
from celery_livelog.stores.catalog import Catalog


class Owners:
    """Asks the catalog; may be called from any thread."""

    def __init__(self, database_url: str) -> None:
        self._catalog = Catalog(database_url)

    def check(self, writer: Writer, task_id: str, account: str = "") -> None:
        """Have a writer write a task.

        :raises NotYours: when it may not.
        :raises StoreError: when that cannot be told now.
        """
        check(writer, task_id, account)
        try:
            known = self._catalog.attempts(task_id)
        except (SQLAlchemyError, SchemaError, OSError) as error:
            raise StoreError("the catalog does not tell whose task it is") from error
        check_account(writer, task_id, known)

    def close(self) -> None:
        """Close all connections."""
        self._catalog.close()


def check_account(writer: Writer, task_id: str, known: Iterable[Attempt]) -> None:
    """Have a writer write a task of which these attempts are known; those without a start are known by name only.

    :raises NotYours: when one is of another account.
    """
    if not writer.everything and any(attempt.account != writer.account for attempt in known if attempt.started):
        raise NotYours(f"the token does not cover task {task_id[:60]!r}: ask for one that does")
