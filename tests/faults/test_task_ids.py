"""Task ids come from whoever may send tasks: each has a log of its own, under exactly that id, no file elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import StartWorker
from tests.nodes import logs

IDS = (
    "../../x",
    "../../../../../../tmp/livelog-escaped",
    "/etc/livelog",
    "a::http://h",
    "a/b/../c",
    "*",
    "~",
    "~root",
    ".",
    "..",
    "CON",
    "nul\0nul",
    "%2e%2e%2f",
    "%252e",
    "line\nbreak\r",
    "\x1b]0;title\x07",
    "\u202egnp.exe",
    "case",
    "CASE",
    "é",
    "e\u0301",
    "x" * 10_000,
    "x" * 9_999 + "y",
    "[a-z]?",
    " ",
)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_any_task_id(start_worker: StartWorker, tmp_path: Path, pool: str) -> None:
    """A real worker, its archive, catalog and reader: what was printed under an id is read back under that id alone."""
    project = start_worker(pool)
    before = {path for path in tmp_path.rglob("*") if "livelog" not in path.parts}
    for name in IDS:
        project.app.send_task("tests.faults.audited.say", (f"I am {len(name)} {name!r}",), task_id=name)
    for name in IDS:
        assert logs.lines(logs.archived(project, name)) == [f"I am {len(name)} {name!r}"]
    after = {path for path in tmp_path.rglob("*") if "livelog" not in path.parts}
    assert {path.relative_to(tmp_path) for path in after - before} == set()
    assert not Path("/tmp/livelog-escaped").exists()
    assert not list(Path("/tmp").glob("livelog-escaped*"))
