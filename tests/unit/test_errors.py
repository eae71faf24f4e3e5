"""The one line that livelog's own faults leave behind."""

from __future__ import annotations

import sys

import pytest

from celery_livelog import errors
from celery_livelog.redact import Redactor


def test_complaints_hide_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Libraries put whole URLs into the texts of their errors."""
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    monkeypatch.setattr(errors, "_hide", errors._hide)
    errors.hide_in_messages(Redactor(["hunter22"]))
    errors.complain("cannot reach s3://me:hunter22@bucket", ValueError("s3://me:hunter22@bucket"))
    assert capsys.readouterr().err == (
        "celery-livelog: cannot reach s3://me:***@bucket: ValueError: s3://me:***@bucket\n"
    )
    assert errors.without_secrets("hunter22") == "***"
