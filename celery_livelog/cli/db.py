"""``livelog db``: which version the tables of the catalog are of, and to upgrade them."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import click

from celery_livelog.cli.output import Output
from celery_livelog.cli.session import settings_of
from celery_livelog.stores.database import Database
from celery_livelog.stores.schema import VERSIONS


@click.group()
def db() -> None:
    """Look after the tables of the catalog."""


@db.command()
@click.pass_obj
def current(context: Any) -> None:
    """Print the version of the tables; the exit code is 1 when this celery-livelog needs another one."""
    output = Output(colour=not context.no_color)
    with settings_of(context) as settings, closing(Database(settings.database_url)) as database:
        version = database.version()
    output.write(f"{version or 'none'}\n")
    if version != VERSIONS[-1]:
        output.note(f"this celery-livelog needs {VERSIONS[-1]}: run `celery -A PROJECT livelog db upgrade`")
        sys.exit(1)


@db.command()
@click.pass_obj
def upgrade(context: Any) -> None:
    """Bring the tables to the version that this celery-livelog needs; make them where there are none.

    Workers of the release before cannot write to them any more: stop these first.
    """
    output = Output(colour=not context.no_color)
    with settings_of(context) as settings, closing(Database(settings.database_url)) as database:
        before = database.upgrade()
    if before == VERSIONS[-1]:
        output.note(f"the catalog is of version {before} already")
    else:
        output.note(f"the catalog was of version {before or 'none'} and is of version {VERSIONS[-1]} now")
