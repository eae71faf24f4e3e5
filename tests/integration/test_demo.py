"""The example project and everything around it, as ``make demo ONCE=1`` runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).parents[2]


def of_the_demo(directory: Path) -> list[psutil.Process]:
    """The processes that run with livelog's files in `directory`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LIVELOG_DIR") == str(directory):
                found.append(process)
        except psutil.Error:
            pass
    return found


def test_the_demo_runs_to_its_end(tmp_path: Path) -> None:
    """It shows all tasks' logs, says where they and runs' files are, succeeds as they did, leaves nothing running."""
    demo = subprocess.run(
        [sys.executable, "-m", "example_project.demo", "--once"],
        cwd=CHECKOUT,
        env={**os.environ, "LIVELOG_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout
    assert "Traceback" not in demo.stdout
    assert "Stage 3: Check: complete" in demo.stdout
    assert "Successfully built celery-livelog" in demo.stdout  # pip, a subprocess, said so
    assert re.search(r"^modules +\d{3}$", demo.stdout, re.MULTILINE)
    assert re.search(r"^import time: .* asyncio$", demo.stdout, re.MULTILINE)  # on the stderr of a subprocess

    archived = re.findall(r"^Archive of \w+: (.+)$", demo.stdout, re.MULTILINE)
    assert len(archived) == 4
    for place in archived:
        (manifest,) = Path(place).glob("*/manifest.json")
        assert json.loads(manifest.read_bytes())["complete"]
    compiled, automated = sorted(re.findall(r"^Files of a run: (.+)$", demo.stdout, re.MULTILINE), reverse=True)
    assert re.fullmatch(
        rf"{tmp_path}/platform_server/media/users/7/projects/project_42/runs/run_\d{{8}}_\d{{6}}", compiled
    )
    assert re.fullmatch(rf"{tmp_path}/logs/automation/a1/s7/run_\w+", automated)
    assert of_the_demo(tmp_path) == []
