"""``livelog token``: a token for a viewer of one task or run, or for a worker elsewhere."""

from __future__ import annotations

import time
from typing import Any

import click

from celery_livelog.access.tokens import SHORT_KEY, Tokens
from celery_livelog.cli.output import Output
from celery_livelog.cli.session import settings_of


@click.command()
@click.argument("task_id", metavar="[ID]", required=False)
@click.option("--run", "run_id", metavar="RUN", help="Instead of a task: a run with its tasks.")
@click.option("--account", metavar="A", help="The account with which the task or run was begun.")
@click.option("--site", metavar="S", help="The site with which it was begun.")
@click.option(
    "--ingest", "ids", metavar="ID", multiple=True, help="For a worker elsewhere: write this task. Repeatable."
)
@click.option("--ingest-prefix", "prefix", metavar="P", help="Likewise: write tasks whose ids begin with P.")
@click.option("--ingest-account", "of_account", metavar="A", help="Likewise: write tasks of account A.")
@click.option(
    "--ttl", metavar="S", type=click.IntRange(min=1), default=3600, help="Over after S seconds; 3600 if not given."
)
@click.option("--name", metavar="N", default="", help="What the viewer or worker is called.")
@click.pass_obj
def token(
    context: Any,
    task_id: str | None,
    run_id: str | None,
    account: str | None,
    site: str | None,
    ids: tuple[str, ...],
    prefix: str | None,
    of_account: str | None,
    ttl: int,
    name: str,
) -> None:
    """Print a token that shows the log of task ID, or with --ingest… one that lets a worker write logs.

    It is signed with livelog_secret_key. Who has it needs no login.
    """
    writing = bool(ids) or prefix is not None or of_account is not None
    viewing = [given for given in (task_id, run_id) if given is not None]
    if len(viewing) + writing != 1:
        raise click.UsageError("expected one of: the ID of a task, --run RUN, or --ingest…")
    if writing and (account is not None or site is not None):
        raise click.UsageError("--account and --site go with the ID of a task or --run; expected --ingest-account")
    output = Output(colour=not context.no_color)
    with settings_of(context) as settings:
        tokens = Tokens(settings.secret_key)
        expires = time.time() + ttl
        if writing:
            made = tokens.write(ids=ids, prefix=prefix or "", account=of_account or "", expires=expires, name=name)
        else:
            whose = {"account": account or "", "site": site or ""}
            made = tokens.view(task_id=task_id or "", run_id=run_id or "", **whose, expires=expires, name=name)
    if tokens.weak:
        output.note(SHORT_KEY, failure=True)
    output.write(f"{made}\n")
