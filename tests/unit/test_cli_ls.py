"""``livelog ls`` over a reader that knows what each test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from celery_livelog.access.rule import Rule
from celery_livelog.attempts import Attempt
from celery_livelog.cli import livelog
from celery_livelog.cli.ls import coloured, plain, tasks

NOW = datetime(2026, 1, 2, 3, 10, tzinfo=timezone.utc)


def attempt(task_id: str, minute: int, state: str = "SUCCESS", **fields: Any) -> Attempt:
    started, ended = f"2026-01-02T03:{minute:02}:00.000000+00:00", f"2026-01-02T03:{minute:02}:04.500000+00:00"
    given = {"name": "proj.build", "worker": "w@host", "lines": 7, **fields}
    return Attempt(
        attempt=f"{task_id}{minute}",
        task_id=task_id,
        started=started,
        ended=ended if state != "STARTED" else "",
        state=state,
        **given,
    )


RECENT = [
    attempt("four", 9, "STARTED", name="proj.report"),
    attempt("three", 8, retries=1),
    attempt("three", 7, "RETRY"),
    attempt("two", 6, "FAILURE"),
    attempt("one", 5),
]


class ScriptedReader:
    """Knows `attempts`, newest first."""

    rule = Rule(None)

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self.known = attempts

    async def recent(self, limit: int = 100) -> list[Attempt]:
        return list(self.known[:limit])

    async def close(self) -> None:
        pass


@pytest.fixture
def ls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``livelog ls`` with arguments and what there is to list."""

    def run(*arguments: str, known: Sequence[Attempt] = RECENT) -> Result:
        monkeypatch.setattr("celery_livelog.cli.session.Reader", lambda *_: ScriptedReader(known))
        context = SimpleNamespace(app=SimpleNamespace(conf={}), no_color=False)
        return CliRunner().invoke(livelog, ["ls", *arguments], obj=context, catch_exceptions=False)

    return run


def ids(result: Result) -> list[str]:
    return [json.loads(text)["task_id"] for text in result.stdout.splitlines()]


def test_one_row_for_each_task(ls: Callable[..., Result]) -> None:
    """Its latest attempt, newest first."""
    assert ids(ls("--json")) == ["four", "three", "two", "one"]
    three = json.loads(ls("--json").stdout.splitlines()[1])
    assert (three["state"], three["attempts"], three["lines"], three["exit_code"]) == ("SUCCESS", 2, 7, None)


def test_conditions(ls: Callable[..., Result]) -> None:
    assert ids(ls("--json", "--state", "started")) == ["four"]
    assert ids(ls("--json", "--state", "RETRY")) == []
    assert ids(ls("--json", "--name", "proj.b*")) == ["three", "two", "one"]
    assert ids(ls("--json", "--limit", "2")) == ["four", "three"]


def test_the_limit_counts_what_fits(ls: Callable[..., Result]) -> None:
    """Attempts are read as far back as needed."""
    many = [attempt(f"id{minute}", minute, "FAILURE" if minute < 2 else "SUCCESS") for minute in reversed(range(60))]
    assert ids(ls("--json", "--state", "FAILURE", "--limit", "2", known=many)) == ["id1", "id0"]


def test_columns_in_a_pipe() -> None:
    """Aligned, whatever is in them; times are whole, for programs."""
    header, four, three, *_ = plain(tasks(RECENT), NOW).splitlines()
    assert header.split() == ["TASK", "NAME", "STATE", "ATTEMPTS", "STARTED", "DURATION", "LINES", "WORKER"]
    assert three.split()[:4] == ["three", "proj.build", "SUCCESS", "2"]
    assert three.split()[5:] == ["4.50s", "7", "w@host"]
    assert datetime.fromisoformat(three.split()[4]) == datetime(2026, 1, 2, 3, 8, tzinfo=timezone.utc)
    assert four.split()[5] == "1m00s"
    assert header.index("STATE") == four.index("STARTED") == three.index("SUCCESS")


def test_a_table_on_a_terminal() -> None:
    text = coloured(tasks(RECENT), NOW, colour=False)
    assert "1m ago" in text
    assert "proj.report" in text


def test_hostile_names_stay_on_their_row() -> None:
    """An id or a name is any text that a client has sent."""
    rows = tasks([attempt("a\x1b[2J\nb", 1, name="n\r\x9b2Jn")])
    assert len(plain(rows, NOW).splitlines()) == 2
    for text in (plain(rows, NOW), coloured(rows, NOW, colour=False)):
        assert not set(text) & set("\x1b\x9b\r")


def test_nothing_to_list(ls: Callable[..., Result]) -> None:
    """A pipe gets the header alone, and a program nothing."""
    assert ls(known=[]).stdout.splitlines() == ["TASK  NAME  STATE  ATTEMPTS  STARTED  DURATION  LINES  WORKER"]
    assert ls("--json", known=[]).stdout == ""
