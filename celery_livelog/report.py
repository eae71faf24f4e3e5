"""Keeps the settings that hold secrets out of ``celery report`` and ``celery inspect conf``.

Celery hides settings by their names alone, and has no public way to add one: only the expression that it asks.
"""

from __future__ import annotations

import re

from celery.app import utils

_OURS = "LIVELOG_(?:REDIS_URL|ARCHIVE_URL|DATABASE_URL|TRANSPORT|REDACT|SECRET_KEY)$"


def hide_settings() -> None:
    """Let Celery show these settings as asterisks, as it does with its own. Harmless when done twice."""
    hidden = utils.HIDDEN_SETTINGS
    if _OURS not in hidden.pattern:
        utils.HIDDEN_SETTINGS = re.compile(f"{hidden.pattern}|{_OURS}", hidden.flags)
