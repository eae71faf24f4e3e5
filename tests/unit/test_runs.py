"""Runs: their ids, the header by which they travel, and what a canvas without one is."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import msgspec
import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog import run
from celery_livelog.run_context import current_run
from celery_livelog.runs import HEADER, Run, from_header, new_run_id, of_canvas


@pytest.fixture
def app() -> Celery:
    """An app whose messages stay in memory."""
    app = Celery("an-app", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = False
    return app


def sent_header(app: Celery) -> Any:
    """The run that a message names that is sent now."""
    with app.connection_for_write() as connection:
        app.send_task("a-task", connection=connection)
        message = connection.SimpleQueue("celery").get(timeout=5)
        message.ack()
    return message.headers.get(HEADER)


def test_a_message_names_the_run_that_it_is_sent_in(app: Celery) -> None:
    """All that it was begun with; outside of it nothing is named."""
    with run(account="a1", site="s7", name="nightly", user_id=7) as begun:
        assert from_header(sent_header(app)) == begun
    assert (begun.account, begun.site, begun.name, begun.fields) == ("a1", "s7", "nightly", {"user_id": "7"})
    assert begun.named
    assert sent_header(app) is None


def test_runs_in_runs(app: Celery) -> None:
    """The inner one counts, until it is left, by an exception too."""
    with run("outer"):
        with suppress(ZeroDivisionError), run("inner"):
            assert sent_header(app)["run_id"] == "inner"
            raise ZeroDivisionError
        assert sent_header(app)["run_id"] == "outer"


def test_a_header_that_is_given_stays(app: Celery) -> None:
    """Who names another run in so many words is heard."""
    given = {"run_id": "given"}
    with run("outer"), app.connection_for_write() as connection:
        app.send_task("a-task", connection=connection, headers={HEADER: given})
        message = connection.SimpleQueue("celery").get(timeout=5)
        message.ack()
    assert message.headers[HEADER] == given


def test_an_id_of_its_own() -> None:
    """It tells when the run began, and two that begin at once have two."""
    with run() as first, run() as second:
        assert re.fullmatch(r"run_\d{8}_\d{6}_[0-9a-f]{6}", first.run_id)
        assert first.run_id != second.run_id
    assert new_run_id(datetime(2024, 6, 20, 16, 30, 55, tzinfo=timezone.utc), "3f2a90") == "run_20240620_163055_3f2a90"


def test_sending_needs_no_install() -> None:
    """A web process that has never heard of workers: `run` is enough, also in code that imported it by itself."""
    code = """if True:
        from celery import Celery
        from celery_livelog import run
        app = Celery(broker="memory://")
        with run("a-run"), app.connection_for_write() as connection:
            app.send_task("a-task", connection=connection)
            print(connection.SimpleQueue("celery").get(timeout=5).headers["livelog_run"]["run_id"])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "a-run\n"


class Odd:
    def __repr__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("value", [None, 7, b"\xff", ["a"], Odd(), "\ud800", "x" * 10_000])
def test_values_that_are_no_text(app: Celery, value: Any) -> None:
    """Whatever a run is begun with, neither that nor sending a task fails, and the run arrives."""
    with run(account=value, field=value) as begun:
        assert from_header(sent_header(app)) == begun
    assert current_run.get() is None


HEADERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=3),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=8), some, max_size=3),
)


@given(HEADERS)
def test_headers_of_others_are_no_runs(header: Any) -> None:
    """A message can hold anything; what is not of our form names no run."""
    found = from_header(header)
    assert found is None or (isinstance(header, dict) and found.run_id == header["run_id"])


@pytest.mark.parametrize(
    "header", [{"run_id": ""}, {"run_id": "x" * 201}, {"run_id": "r", "fields": {"a": "x" * 201}}, {"run_id": 7}, []]
)
def test_headers_out_of_bounds(header: Any) -> None:
    assert from_header(header) is None


def test_a_header_comes_back_as_it_was() -> None:
    known = Run(run_id="r", name="nightly", account="a", site="s", fields={"user_id": "7"}, started="2026-01-02")
    assert from_header(msgspec.to_builtins(known)) == known


@pytest.mark.parametrize(
    ("task_id", "root_id", "group_id", "chain", "expected"),
    [
        ("a", "a", "", None, "a"),
        ("b", "a", "", None, "a"),
        ("a", "a", "g", None, "g"),
        ("b", "a", "g", None, "a"),
        ("a", "a", "", [{"options": {"group_id": "g"}}, {"options": {}}], "g"),
        ("a", "a", "", [{"options": {}}], "a"),
        ("a", "a", "", "nonsense", "a"),
        ("a", "a", "", [7], "a"),
        ("a", "a", "", [{"options": {"group_id": 7}}], "a"),
        ("a", "", "", [], "a"),
    ],
)
def test_the_run_of_a_canvas(task_id: str, root_id: str, group_id: str, chain: Any, expected: str) -> None:
    """Its root, or the group that its roots share."""
    assert of_canvas(task_id, root_id, group_id, chain) == Run(run_id=expected)
