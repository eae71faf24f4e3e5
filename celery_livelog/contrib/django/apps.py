"""The app, and what `manage.py check` says of its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import current_app
from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from celery_livelog.access import rule
from celery_livelog.contrib.django import conf
from celery_livelog.errors import SettingsError

_MIDDLEWARE = "celery_livelog.contrib.django.stage_messages.StageMessagesMiddleware"
_BEFORE_IT = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
)


class LivelogConfig(AppConfig):
    """Live logs of Celery's tasks."""

    name = "celery_livelog.contrib.django"
    label = "livelog"
    verbose_name = "Live logs"

    def ready(self) -> None:
        # Now, in the thread that has imported the project: others have no current app.
        self.celery_app = current_app._get_current_object()
        checks.register(check)


def check(**_: Any) -> list[checks.CheckMessage]:
    """What is wrong with the settings."""
    found: list[checks.CheckMessage] = []
    asked: tuple[Callable[[], Any], ...] = (
        conf.scope,
        conf.message,
        conf.held_requests,
        _check_livelog,
    )
    for number, ask in enumerate(asked, 1):
        try:
            ask()
        except (ImproperlyConfigured, SettingsError, TypeError, ValueError) as error:
            found.append(checks.Error(str(error), id=f"livelog.E00{number}"))
    return found + _check_order(list(settings.MIDDLEWARE))


def _check_livelog() -> None:
    """Read what livelog is told, and import the site's rule."""
    livelog = conf.livelog_settings(conf.celery_app())
    if livelog is not None and livelog.permission is not None:
        rule.load(livelog.permission)


def _check_order(middleware: list[str]) -> list[checks.CheckMessage]:
    if _MIDDLEWARE not in middleware:
        return []
    missing = [name for name in _BEFORE_IT if name not in middleware[: middleware.index(_MIDDLEWARE)]]
    said = f"{_MIDDLEWARE} shows no messages: it must stand behind {', '.join(missing)} in MIDDLEWARE."
    return [checks.Warning(said, id="livelog.W001")] if missing else []
