"""Runs code in a process of its own: where descriptors, forks, signals, limits or ``sys.stdout`` are at stake."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path


def run(code: str, *arguments: str | Path, timeout: float = 30) -> str:
    """Run Python code that must end well; give what it wrote to its stdout.

    :param arguments: its ``sys.argv[1:]``.
    :param timeout: seconds.
    """
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    assert child.returncode == 0, f"ended with {child.returncode}:\n{child.stderr.decode(errors='backslashreplace')}"
    return child.stdout.decode(errors="backslashreplace")
