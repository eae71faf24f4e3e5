"""What all tests share: a steady Hypothesis, and skips that count as failures where everything must be there."""

from __future__ import annotations

import os
from collections.abc import Generator

import hypothesis
import pytest

# Machines that run many things at once are slow now and then: that says nothing about the code.
hypothesis.settings.register_profile("livelog", deadline=None)
hypothesis.settings.load_profile("livelog")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under ``CI=true`` a test that is skipped because something is missing has failed."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {call.excinfo.value if call.excinfo else ''}"
    return report
