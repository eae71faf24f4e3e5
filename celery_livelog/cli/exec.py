"""``livelog exec``: run any program; what it prints is a log, live and archived, and its exit code is the command's."""

from __future__ import annotations

import os
import sys
import uuid
from typing import Any

import click

from celery_livelog import environment
from celery_livelog.errors import LivelogError, hide_in_messages
from celery_livelog.programs.running import Order, attempt_of, run, say
from celery_livelog.settings import Settings

#: What ``env``, ``timeout`` and the like leave with when they themselves have failed.
_OWN_FAILURE = 125


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND [ARGUMENT]…")
@click.option("--id", "task_id", metavar="ID", help="The id of the log; one that is in use gets another attempt.")
@click.option("--name", metavar="NAME", help="What it is called in lists; else the name of the program.")
@click.option("--pty", is_flag=True, help="Give the program a terminal of its own: colours, progress bars, input.")
@click.option("--quiet", is_flag=True, help="Do not show what the program prints, only log it.")
@click.option("--run", "run_id", metavar="RUN", default="", help="The run that it is a part of.")
@click.option("--account", metavar="ACCOUNT", default="", help="Whose it is.")
@click.option("--site", metavar="SITE", default="", help="Whose it is, within the account.")
@click.option("--redis-url", metavar="URL", help="Another Redis than the configured one.")
@click.option("--wait", metavar="S", type=click.FloatRange(min=0), default=10.0, show_default=True,
              help="Seconds to wait at the end until all is sent; another process goes on then.")  # fmt: skip
@click.pass_obj
def exec_(
    context: Any,
    command: tuple[str, ...],
    task_id: str | None,
    name: str | None,
    pty: bool,
    quiet: bool,
    run_id: str,
    account: str,
    site: str,
    redis_url: str | None,
    wait: float,
) -> None:
    """Run COMMAND with a log of its own, and leave with its exit code: 128 + N when signal N killed it.

    Without an app the settings come from the environment: LIVELOG_REDIS_URL is livelog_redis_url, and so on.
    """
    try:
        settings = _settings(context, redis_url)
    except LivelogError as error:
        say(str(error))
        sys.exit(_OWN_FAILURE)
    hide_in_messages(settings.redactor)
    if task_id is None:
        task_id = str(uuid.uuid4())
        say(f"this is the log of task {task_id}")
    attempt = attempt_of(task_id, command, name, settings)
    attempt.run_id, attempt.account, attempt.site = run_id, account, site
    sys.exit(run(Order(command=command, attempt=attempt, terminal=pty, quiet=quiet, patience=wait), settings))


def _settings(context: Any, redis_url: str | None) -> Settings:
    if context.app is None:
        return environment.settings_of(os.environ, redis_url=redis_url)
    if redis_url is not None:
        context.app.conf.livelog_redis_url = redis_url
    return Settings.from_conf(context.app.conf)
