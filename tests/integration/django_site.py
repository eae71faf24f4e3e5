"""A Django site in the tests' process: users of three accounts and the app, reading what a project's workers wrote."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import django
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.test import Client

from celery_livelog.contrib.django import background
from tests.nodes.project import Project

PASSWORD = "open sesame"
_URLS = "tests.integration.django_urls"


settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of tests",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "celery_livelog.contrib.django",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "celery_livelog.contrib.django.stage_messages.StageMessagesMiddleware",
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": ["django.contrib.messages.context_processors.messages"]},
        }
    ],
    ROOT_URLCONF=_URLS,
    LIVELOG_SCOPE=f"{_URLS}.scope",
    USE_TZ=True,
)
django.setup()


def configure(directory: Path) -> None:
    """Make the site's database, with its users."""
    from django.db import connection

    connection.close()
    connection.settings_dict["NAME"] = str(directory / "site.sqlite3")
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    for name in ("a1", "a2", "a3", "own1", "own2", "broken", "nobody"):
        User.objects.create_user(name, password=PASSWORD)
    User.objects.create_user("boss", password=PASSWORD, is_staff=True)


def serve(project: Project) -> None:
    """Let the site read what the project's workers write."""
    forget()
    apps.get_app_config("livelog").celery_app = SimpleNamespace(conf=project.conf)


def forget() -> None:
    """End what the app keeps in this process."""
    if background._current is not None:
        background._current.close()
    background._forget()


def client(name: str) -> Client:
    """A browser in which this user is logged in."""
    browser = Client(raise_request_exception=False)
    assert browser.login(username=name, password=PASSWORD)
    return browser


def user_id(name: str) -> int:
    """The id of a user."""
    from django.contrib.auth.models import User

    return int(User.objects.get(username=name).pk)
