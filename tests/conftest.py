"""What all tests share: a Valkey, a steady Hypothesis, and skips that are failures where everything must be there."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest

from tests.nodes.valkey import Valkey

# Machines that run many things at once are slow now and then: that says nothing about the code. Each run takes other
# examples: EXAMPLES=2000 looks for what is rarer.
hypothesis.settings.register_profile("livelog", deadline=None, max_examples=int(os.environ.get("EXAMPLES", "60")))
hypothesis.settings.load_profile("livelog")

# A shell that starts this in the background has it ignore what a terminal sends, and with it all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


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


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One Valkey for all tests."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    try:
        server.start()
        yield server
    finally:
        server.end()


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """The Valkey, empty; `url` and `client` lead to it."""
    valkey_server.client.flushall()
    return valkey_server
