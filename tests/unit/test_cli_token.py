"""``livelog token`` and ``celery_livelog.token``: tokens that hold, from the app's settings or the environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result

import celery_livelog
from celery_livelog.access.tokens import Tokens
from celery_livelog.cli import livelog
from celery_livelog.errors import SettingsError, TokenError
from celery_livelog.permissions import Scope

KEY, OLD = "k" * 40, "o" * 40
TOKENS = Tokens([KEY])

Run = Callable[..., Result]


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app with two keys, which is the current one."""
    app = Celery("proj")
    app.conf.update(livelog=True, livelog_secret_key=[KEY, OLD])
    app.set_current()
    yield app
    app.close()


def run(*arguments: str, **conf: Any) -> Result:
    """Run ``livelog token`` with an app of these settings; with none, without an app."""
    context = SimpleNamespace(app=SimpleNamespace(conf=conf) if conf else None, no_color=False)
    return CliRunner().invoke(livelog, ["token", *arguments], obj=context)


def test_a_token_for_a_task(app: Celery) -> None:
    """Made in any code of the app; it ends after an hour if nothing else is said."""
    viewer = TOKENS.viewer(celery_livelog.token("a-task", name="bob"), time.time())
    assert (viewer.seen, viewer.name) == ((Scope(task_id="a-task"),), "bob")
    assert viewer.expires == pytest.approx(time.time() + 3600, abs=60)
    soon = TOKENS.viewer(celery_livelog.token("a-task", ttl=60), time.time())
    assert soon.expires == pytest.approx(time.time() + 60, abs=30)


def test_a_token_for_a_run(app: Celery) -> None:
    """Of an app that is given, whichever is the current one."""
    Celery("another").set_current()
    token = celery_livelog.token(run_id="nightly", account="a1", site="s7", app=app)
    assert TOKENS.viewer(token, time.time()).seen == (Scope(run_id="nightly", account="a1", site="s7"),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "expected the id of a task or that of a run, and not both"),
        ({"task_id": "a", "run_id": "b"}, "expected the id of a task or that of a run, and not both"),
        ({"task_id": 7}, "the task_id of a token is 7; expected a text"),
        ({"task_id": "a", "account": 7}, "the account of a token is 7; expected a text"),
        ({"task_id": "a", "ttl": 0}, "the ttl of a token is 0; expected seconds above 0"),
    ],
)
def test_what_no_token_is_made_for(app: Celery, given: dict[str, Any], said: str) -> None:
    """A mistake is told where it is made, and widens nothing."""
    with pytest.raises(TokenError) as error:
        celery_livelog.token(**given)
    assert str(error.value) == said


def test_the_tokens_of_the_documents(app: Celery) -> None:
    """The example in docs/permissions.md makes tokens for what it says."""
    page = (Path(__file__).parents[2] / "docs" / "permissions.md").read_text()
    example = page.partition("from celery_livelog import token")[2].partition("```")[0]
    names: dict[str, Any] = {"token": celery_livelog.token}
    exec(example, names)
    assert TOKENS.viewer(names["watch_task"], time.time()).seen == (Scope(task_id="4f1c"),)
    of_run = TOKENS.viewer(names["watch_run"], time.time())
    assert (of_run.seen, of_run.name) == ((Scope(run_id="nightly", account="acme", site="berlin"),), "bob")


def test_an_app_without_a_key() -> None:
    """Says which setting it is, and how to come by a key."""
    with pytest.raises(TokenError, match=r"^livelog_secret_key is not set .*secrets\.token_urlsafe"):
        celery_livelog.token("a-task", app=SimpleNamespace(conf={"livelog": True}))
    with pytest.raises(SettingsError, match="livelog_secret_key"):
        celery_livelog.token("a-task", app=SimpleNamespace(conf={"livelog_secret_key": b"bytes"}))


def test_the_command_prints_the_token_alone() -> None:
    """For a task, or a run of an account and a site."""
    result = run("a-task", "--ttl", "60", "--name", "bob", livelog_secret_key=KEY)
    assert result.stderr == ""
    viewer = TOKENS.viewer(result.stdout.removesuffix("\n"), time.time())
    assert (viewer.seen, viewer.name) == ((Scope(task_id="a-task"),), "bob")
    assert viewer.expires == pytest.approx(time.time() + 60, abs=30)
    of_run = run("--run", "nightly", "--account", "a1", "--site", "s7", livelog_secret_key=KEY).stdout
    assert TOKENS.viewer(of_run.strip(), time.time()).seen == (Scope(run_id="nightly", account="a1", site="s7"),)


def test_tokens_for_workers() -> None:
    """Of some tasks, of those that begin so, of an account; two conditions must both hold."""
    made = run("--ingest", "a", "--ingest", "b", livelog_secret_key=KEY).stdout.strip()
    writer = TOKENS.writer(made, time.time())
    assert [writer.may_write(task_id) for task_id in ("a", "b", "ab")] == [True, True, False]
    made = run("--ingest-prefix", "build-", "--ingest-account", "a1", livelog_secret_key=KEY).stdout.strip()
    writer = TOKENS.writer(made, time.time())
    assert writer.may_write("build-42", "a1")
    assert not writer.may_write("build-42", "a2")
    assert not writer.may_write("other", "a1")
    with pytest.raises(TokenError):
        TOKENS.viewer(made, time.time())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a-task", "--run", "nightly"],
        ["a-task", "--ingest", "a"],
        ["--run", "nightly", "--ingest-prefix", "a"],
        ["--ingest", "a", "--account", "a1"],
        ["a-task", "--ttl", "0"],
    ],
)
def test_what_cannot_be_meant(arguments: list[str]) -> None:
    """Is a mistake, and no token."""
    result = run(*arguments, livelog_secret_key=KEY)
    assert (result.exit_code, result.stdout) == (2, "")


def test_without_an_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is that of the environment; without one, or with a short one, it says so."""
    result = run("a-task")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: livelog_secret_key is not set (LIVELOG_SECRET_KEY where there is no app)")
    assert result.stderr.count("\n") == 1
    monkeypatch.setenv("LIVELOG_SECRET_KEY", "short")
    result = run("a-task")
    assert "livelog_secret_key is shorter than 32 characters" in result.stderr
    assert Tokens(["short"]).viewer(result.stdout.strip(), time.time()).seen == (Scope(task_id="a-task"),)
    assert run("--ingest", "").exit_code == 1
