"""What the console is told of a store that fails: little, and what helps."""

from __future__ import annotations

import pytest

from celery_livelog.shipper.trouble import Trouble


@pytest.fixture
def trouble() -> Trouble:
    """A store's, with an advice for each error."""
    return Trouble("the store", lambda error: f"what to do: {error.args[0]} less")


def test_said_once_and_once_that_it_is_over(trouble: Trouble, capfd: pytest.CaptureFixture[str]) -> None:
    """However often it fails; with what to do."""
    trouble.over()
    for _ in range(100):
        trouble.failed(OSError("fill"))
    trouble.over()
    trouble.over()
    warning, again = capfd.readouterr().err.splitlines()
    assert warning == "celery-livelog: the store cannot be written (OSError: fill); what to do: fill less"
    assert again == "celery-livelog: the store is written again, after 0 s"


def test_a_single_failure_is_not_said(trouble: Trouble, capfd: pytest.CaptureFixture[str]) -> None:
    """It works at the next try."""
    for _ in range(3):
        trouble.failed(OSError("closed"))
        trouble.over()
    assert capfd.readouterr().err == ""


def test_the_last_word_is_true(trouble: Trouble, capfd: pytest.CaptureFixture[str]) -> None:
    """A store that comes and goes is not told for ever, and then not that it works again either."""
    for _ in range(50):
        trouble.failed(OSError("come and go"))
        trouble.failed(OSError("come and go"))
        trouble.over()
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 10
    assert "again" in said[-1]
