"""Runs code in a process of its own: where descriptors, forks, signals, limits or ``sys.stdout`` are at stake."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

_ROOT = Path(__file__).parent.parent.parent


def run(code: str, *arguments: str | Path, timeout: float = 30) -> str:
    """Run Python code that must end well; give what it wrote to its stdout.

    :param arguments: its ``sys.argv[1:]``.
    :param timeout: seconds.
    """
    child = end_of(code, *arguments, timeout=timeout)
    assert child.returncode == 0, f"ended with {child.returncode}:\n{child.stderr}"
    return child.stdout


def end_of(code: str, *arguments: str | Path, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run Python code, however it ends; see `run`."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=_ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=timeout,
        check=False,
    )
