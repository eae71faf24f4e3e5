"""The command group that every ``celery`` command loads: light, and harmless when something is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from celery_livelog import cli
from celery_livelog.cli.__main__ import main

_HEAVY = ("alembic", "flower", "msgspec", "obstore", "redis", "rich", "sqlalchemy", "structlog", "tornado", "zstandard")


def test_loading_the_group_loads_no_library() -> None:
    """Whatever runs under ``celery`` pays for it."""
    code = f"""if True:
        import sys
        import celery.bin.worker
        before = set(sys.modules)
        import celery_livelog.cli
        new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
        print(*sorted(new & {set(_HEAVY)!r}))
    """
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (loaded.stdout, loaded.stderr) == ("\n", "")


def test_commands_are_found_and_named() -> None:
    """`livelog --help` loads them all, so each can be."""
    result = CliRunner().invoke(cli.livelog, ["--help"])
    assert result.exit_code == 0
    for name in cli._COMMANDS:
        assert f"\n  {name} " in result.stdout


def test_an_unknown_command() -> None:
    result = CliRunner().invoke(cli.livelog, ["lgos"])
    assert result.exit_code == 2
    assert "No such command 'lgos'" in result.stderr


def test_a_hook_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The worker, or whatever else was to run, runs."""
    monkeypatch.setattr(cli, "_HOOKS", ("celery_livelog.nowhere:connect", "os:getcwd"))
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    cli._call_hooks()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "celery_livelog.nowhere:connect failed" in said


def test_the_script_needs_an_app_that_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says why it cannot, whatever the user's modules raise."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["-A", "no_such_project", "ls"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: cannot load the app no_such_project: ModuleNotFoundError")
    assert result.stderr.count("\n") == 1
