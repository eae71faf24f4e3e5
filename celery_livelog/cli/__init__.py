"""The commands of ``celery livelog``.

Every ``celery`` command loads this module, before the app: it imports next to nothing. Its two hooks are how the
package comes to work in a worker and in Flower without a line of code of the user's.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from celery_livelog.errors import complain

_COMMANDS = {
    "db": "celery_livelog.cli.db:db",
    "exec": "celery_livelog.cli.exec:exec_",
    "logs": "celery_livelog.cli.logs:logs",
    "ls": "celery_livelog.cli.ls:ls",
    "relay": "celery_livelog.cli.relay:relay",
    "recover": "celery_livelog.cli.recover:recover",
    "runs": "celery_livelog.cli.runs:runs",
    "token": "celery_livelog.cli.token:token",
    "verify": "celery_livelog.cli.verify:verify",
}
_HOOKS = ("celery_livelog.signals:connect", "celery_livelog.flower_plugin:hook")


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = _load(place)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands)
def livelog() -> None:
    """Read the output of tasks, live and archived."""


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _call_hooks() -> None:
    for place in _HOOKS:
        try:
            _load(place)()
        except Exception as error:  # noqa: BLE001 - whatever it is, every celery command must go on
            complain(f"{place} failed", error)


_call_hooks()
