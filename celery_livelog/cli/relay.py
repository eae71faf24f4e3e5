"""``livelog relay``: serve logs by HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import difflib
import os
import resource
from dataclasses import replace
from typing import Any

import click

from celery_livelog import checks
from celery_livelog.cli.session import settings_of
from celery_livelog.errors import SettingsError, report
from celery_livelog.settings import Settings, enabled

_VARIABLES = "LIVELOG_RELAY"
_LIMIT = click.IntRange(min=1)


@click.command(context_settings={"auto_envvar_prefix": _VARIABLES, "show_default": True})
@click.option("--address", default="127.0.0.1", metavar="A", help="Listen on this address; '' for all.")
@click.option("--port", default=5556, type=click.IntRange(0, 65535), help="Listen on this port; 0 for any free one.")
@click.option("--url-prefix", default="", metavar="P", help="Serve everything below /P.")
@click.option("--redis-url", metavar="URL", help="The Redis for live lines, in place of the configured one.")
@click.option("--origin", multiple=True, metavar="O", help="Pages of https://O may ask too. Repeatable.")
@click.option("--proxy", multiple=True, metavar="IP", help="Believe this proxy, or network of such.")
@click.option("--anonymous", is_flag=True, help="With a key and a rule: ask the rule about those without a token, too.")
@click.option("--certfile", metavar="FILE", help="Serve TLS with this certificate.")
@click.option("--keyfile", metavar="FILE", help="The certificate's key, if it is in a file of its own.")
@click.option("--metrics", multiple=True, metavar="IP", help="Who may ask for /metrics: an address or network.")
@click.option("--max-connections", default=5000, type=_LIMIT, help="Sockets and requests at once.")
@click.option("--max-per-address", default=2500, type=_LIMIT, help="The same, of one address.")
@click.option("--max-per-viewer", default=1500, type=_LIMIT, help="The same, of one token or user.")
@click.pass_obj
def relay(context: Any, /, redis_url: str | None, **given: Any) -> None:
    """Serve logs by HTTP and WebSocket, for pages of your own and workers elsewhere.

    Each option has an environment variable: LIVELOG_RELAY_PORT is --port.
    """
    with settings_of(context) as settings:
        _check_variables()
        if context.app is not None and not enabled(context.app.conf):
            raise SettingsError(f"livelog is off in the app {context.app.main}: set app.conf.livelog = True")
        serve(_with_redis(settings, redis_url), context.app, **given)


def serve(settings: Settings, app: Any, **given: Any) -> None:
    """Serve until somebody ends it."""
    try:
        from celery_livelog import relay as server  # Tornado is an extra
        from celery_livelog.web.gate_caps import Limits
    except ImportError as error:
        raise SettingsError(f'{error}; expected pip install "celery-livelog[relay]"') from error
    limits = Limits(
        total=given.pop("max_connections"),
        per_address=given.pop("max_per_address"),
        per_viewer=given.pop("max_per_viewer"),
    )
    options = server.Options(limits=limits, origins=given.pop("origin"), proxies=given.pop("proxy"), **given)
    _have_descriptors()
    asyncio.run(server.serve(settings, options, report, app))


def _check_variables() -> None:
    """Refuse what looks like the variable of an option and is none.

    :raises SettingsError: naming the nearest one.
    """
    known = [f"{_VARIABLES}_{(option.name or '').upper()}" for option in relay.params]
    for name in os.environ:
        if name.startswith(f"{_VARIABLES}_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise SettingsError(f"{name} is no option of the relay; did you mean {near}?")


def _with_redis(settings: Settings, redis_url: str | None) -> Settings:
    if redis_url is None:
        return settings
    try:
        return replace(settings, redis_url=checks.url("redis://", "rediss://", "redis+socket://", "unix://")(redis_url))
    except ValueError as error:
        raise SettingsError(f"--redis-url cannot be used; expected {error}") from None


def _have_descriptors() -> None:
    """Allow as many open sockets as this user may have: usual limits are made for programs with few files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
