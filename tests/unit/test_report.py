"""What Celery shows of an app's settings."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.app import utils

from celery_livelog.report import hide_settings


def test_settings_with_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours as well as those that Celery hides itself; under Django's names, too; all others are shown."""
    monkeypatch.setattr(utils, "HIDDEN_SETTINGS", utils.HIDDEN_SETTINGS)
    hide_settings()
    hide_settings()
    app = Celery("report", set_as_current=False)
    hidden = ["redis_url", "archive_url", "database_url", "transport", "transport_token", "redact", "secret_key"]
    shown = ["maxlen", "redact_env", "dir"]
    app.conf.update({f"livelog_{name}": "hunter2" for name in [*hidden, *shown]})
    table = app.conf.table()
    assert {name for name in hidden if table[f"livelog_{name}"] == "*" * 8} == set(hidden)
    assert {name for name in shown if table[f"livelog_{name}"] == "hunter2"} == set(shown)
    assert app.conf.humanize().count("hunter2") == len(shown)
    assert utils.filter_hidden_settings({"CELERY_LIVELOG_REDIS_URL": "hunter2", "MY_PASSWORD": "hunter2"}) == {
        "CELERY_LIVELOG_REDIS_URL": "*" * 8, "MY_PASSWORD": "*" * 8,
    }  # fmt: skip
