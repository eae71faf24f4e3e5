"""``celery-livelog -A proj CMD``: the commands of ``celery -A proj livelog CMD`` under a name of their own."""

from __future__ import annotations

import os
import sys

import click

from celery_livelog.cli import Commands


@click.group("celery-livelog", cls=Commands)
@click.option("-A", "--app", envvar="CELERY_APP", metavar="APP", help="The Celery app, as for the celery command.")
@click.option("-b", "--broker", envvar="CELERY_BROKER_URL", metavar="URL", help="A broker other than the app's.")
@click.pass_context
def main(context: click.Context, app: str | None, broker: str | None) -> None:
    """Read the output of Celery tasks, live and archived."""
    from celery.app.utils import find_app
    from celery.bin.base import CLIContext

    if broker:
        os.environ["CELERY_BROKER_URL"] = broker
    try:
        found = find_app(app) if app else None
    except Exception as error:  # the app's modules are the user's: anything may come out of them
        raise click.ClickException(f"cannot load the app {app}: {type(error).__name__}: {error}") from error
    context.obj = CLIContext(app=found, no_color="NO_COLOR" in os.environ, workdir=None)
    context.obj.app = found  # without one Celery puts its default app there, which has no settings of anybody's


if __name__ == "__main__":
    sys.exit(main())
