"""The app's own Django settings, all optional. What livelog itself is told is `CELERY_LIVELOG_…`."""

from __future__ import annotations

from typing import Any

from celery import Celery
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from celery_livelog.errors import SettingsError
from celery_livelog.settings import Settings, enabled

#: Requests that a process without asyncio holds at once until there is something new; each takes one of its threads.
_HELD = 2


def scope() -> Any:
    """``LIVELOG_SCOPE``: gives what the user of a request may see, by default everything to staff.

    :raises ImproperlyConfigured: when it cannot be imported or called.
    """
    return _callable("LIVELOG_SCOPE", "celery_livelog.contrib.django.access.staff")


def message() -> Any:
    """``LIVELOG_STAGE_MESSAGE``: makes a message of a stage's news.

    :raises ImproperlyConfigured: when it cannot be imported or called.
    """
    return _callable("LIVELOG_STAGE_MESSAGE", "celery_livelog.contrib.django.stage_news.message_of")


def held_requests() -> int:
    """``LIVELOG_HELD_REQUESTS``."""
    return int(getattr(settings, "LIVELOG_HELD_REQUESTS", _HELD))


def celery_app() -> Celery:
    """``LIVELOG_CELERY_APP``, or the app that the project has made.

    :raises ImproperlyConfigured: when it is no Celery app.
    """
    name = getattr(settings, "LIVELOG_CELERY_APP", None)
    if name is None:
        return apps.get_app_config("livelog").celery_app
    app = _imported("LIVELOG_CELERY_APP", name)
    if not isinstance(app, Celery):
        raise ImproperlyConfigured(f"LIVELOG_CELERY_APP is {name!r}, which is no Celery app")
    return app


def livelog_settings(app: Celery) -> Settings | None:
    """What livelog is told by the app; None while it is off.

    :raises SettingsError: when that cannot be used.
    """
    try:
        return Settings.from_conf(app.conf) if enabled(app.conf) else None
    except ImportError as error:
        raise SettingsError(f"the Celery app's configuration cannot be imported: {error}") from error


def _callable(setting: str, default: str) -> Any:
    name = getattr(settings, setting, default)
    found = name if callable(name) else _imported(setting, name)
    if not callable(found):
        raise ImproperlyConfigured(f"{setting} is {name!r}; expected the dotted path of a function")
    return found


def _imported(setting: str, name: Any) -> Any:
    try:
        return import_string(name)
    except (ImportError, TypeError, AttributeError) as error:
        raise ImproperlyConfigured(f"{setting} is {name!r}, which cannot be imported: {error}") from error
