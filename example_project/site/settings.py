"""Django's settings. What shows logs, runs and stages is marked with "livelog"."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

STATE = Path(os.environ.get("LIVELOG_DIR", Path(__file__).parents[2] / ".demo")).absolute()
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")

DEBUG = True
SECRET_KEY = os.environ.get("SITE_SECRET_KEY") or secrets.token_urlsafe()
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "example_project.site.urls"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": STATE / "site.sqlite3"}}
LOGIN_REDIRECT_URL = "/"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "celery_livelog.contrib.django",  # livelog
    "example_project.site",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "celery_livelog.contrib.django.stage_messages.StageMessagesMiddleware",  # livelog
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

CELERY_BROKER_URL = CELERY_RESULT_BACKEND = REDIS_URL
CELERY_LIVELOG = True  # livelog
CELERY_LIVELOG_DIR = str(STATE)  # livelog: where the worker's archive and catalog are
LIVELOG_SCOPE = "example_project.site.access.scope"  # livelog
