"""Tasks that write faster than anybody reads: each line is counted, and a line that is drawn again and again is not all
that Redis has to do.
"""

from __future__ import annotations

from tests.faults.conftest import StartWorker
from tests.nodes import logs
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for


def test_ten_thousand_carriage_returns_a_second(start_worker: StartWorker, valkey: Valkey) -> None:
    """Viewers get a progress bar ten times a second at most, and its last state is what stays."""
    project = start_worker()
    sent = project.app.send_task("tests.faults.audited.draw", (30_000, 3.0))
    elapsed = sent.get(timeout=60)
    entries = valkey.client.xinfo_stream(f"task:logs:{sent.id}")["entries-added"]
    assert entries <= 10 * elapsed + 5
    assert logs.lines(logs.archived(project, sent.id)) == ["29999 of 30000"]


def test_a_million_lines_at_once(start_worker: StartWorker) -> None:
    """Shown and skipped are as many as were printed."""
    project = start_worker(livelog_spool_max_bytes=1_000_000)
    count = 1_000_000
    sent = project.app.send_task("tests.faults.audited.flood", (count,))
    assert sent.get(timeout=60) == count

    def archived() -> bool:
        return any(attempt.ended and attempt.archive for attempt in logs.attempts(project, sent.id))

    wait_for(archived, 60, "the archive")
    (attempt,) = logs.attempts(project, sent.id)
    assert attempt.skipped > 0
    assert attempt.lines + attempt.skipped == count
