"""Run a command's work with a reader; it ends with an exit code or one line, never with a traceback."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from celery_livelog import environment
from celery_livelog.cancel import cancel
from celery_livelog.errors import LivelogError, hide_in_messages, without_secrets
from celery_livelog.permissions import EVERYTHING, Viewer
from celery_livelog.reader import Reader
from celery_livelog.reader.door import reader_for
from celery_livelog.settings import Settings

#: What a shell shows for a command that Ctrl-C ended: 128 + SIGINT.
_INTERRUPTED = 130


def run(context: Any, work: Callable[[Reader], Awaitable[int]]) -> NoReturn:
    """Leave with the exit code that `work` gives.

    :param context: Celery's ``CLIContext``, which has the app.
    :raises click.ClickException: when the settings cannot be used or the log cannot be read.
    """
    with settings_of(context) as settings:
        try:
            code = asyncio.run(_with_reader(settings, context.app, work))
        except KeyboardInterrupt:
            code = _INTERRUPTED
    sys.exit(code)


@contextmanager
def settings_of(context: Any) -> Iterator[Settings]:
    """The settings of the app, or without one of the environment, for work whose errors are one line each.

    :raises click.ClickException: when the settings cannot be used, or for whatever the work raises.
    """
    try:
        settings = read_settings(context)
        hide_in_messages(settings.redactor)
        yield settings
    except (click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:  # Redis, the database or the archive is away: each has errors of its own
        raise click.ClickException(_said(error)) from error


def read_settings(context: Any) -> Settings:
    """The settings of the app, or without one of the environment.

    :raises SettingsError: when they cannot be used.
    """
    return environment.settings_of(os.environ) if context.app is None else Settings.from_conf(context.app.conf)


async def _with_reader(settings: Settings, app: Any, work: Callable[[Reader], Awaitable[int]]) -> int:
    reader = Reader(settings, app)
    viewer = Viewer(via="cli", name=_login_name(), seen=EVERYTHING)
    working = asyncio.ensure_future(work(reader_for(reader, viewer)))
    try:
        await asyncio.wait([working])
        return working.result()
    finally:
        await cancel(working)
        await reader.close()


def _login_name() -> str:
    """Whose process it is, as the system knows; the environment could say anything."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in containers
        return str(os.getuid())


def _said(error: Exception) -> str:
    """An error on one line."""
    text = without_secrets(" ".join(str(error).split("\n(Background", 1)[0].split()))
    return text if isinstance(error, LivelogError) else f"{type(error).__name__}: {text}".removesuffix(": ")
