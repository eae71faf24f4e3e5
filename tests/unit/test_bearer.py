"""What a relay knows a worker by."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from celery_livelog.access.tokens import Tokens
from celery_livelog.attempts import Attempt
from celery_livelog.errors import SettingsError
from celery_livelog.ingest import writers
from celery_livelog.settings import Settings
from celery_livelog.shipper.bearer import bearer

KEY = "the key of the relay and of this worker"


def read(**given: Any) -> Settings:
    return Settings.from_conf({"livelog_transport": "wss://logs.example.org/ingest", **given}, {})


def test_a_token_that_was_given(tmp_path: Path) -> None:
    """It goes before any of its own making; in a file it is read anew for each connection."""
    assert bearer(read(livelog_transport_token="given", livelog_secret_key=KEY))() == "given"
    file = tmp_path / "a token"
    token = bearer(read(livelog_transport_token=file.as_uri()))
    for text in ("first", "second"):
        file.write_text(f"{text}\n")
        assert token() == text


def test_a_worker_with_the_key_of_the_relay() -> None:
    """It signs its own token, for all tasks of all accounts; their accounts stay what they are."""
    writer = Tokens([KEY]).writer(bearer(read(livelog_secret_key=KEY))(), time.time())
    again = Tokens([KEY]).writer(bearer(read(livelog_secret_key=KEY))(), time.time())
    assert writers.identity(writer) == writers.identity(again)
    attempt = Attempt(attempt="0123456789abcdef", task_id="a task", account="acme")
    assert writers.own_attempt(writer, attempt, "").account == "acme"
    assert writers.own_attempt(writer, Attempt(attempt="0123456789abcdef", task_id="b"), "").account == ""


def test_neither_token_nor_key() -> None:
    """A worker that the relay will not let in does not start without a word."""
    with pytest.raises(SettingsError, match="livelog_transport is set without livelog_transport_token"):
        read()
