"""Tasks that do all that a task may do; each tells what it has seen. Knows nothing of livelog.

A worker runs them once with livelog off and once with it on: `test_same_as_without` compares.
"""

from __future__ import annotations

from tests.faults.kinds import ends, finds, speaks, writes
from tests.faults.kinds.kind import KINDS, ROUGH, WITHOUT_RESULT

__all__ = ["KINDS", "ROUGH", "WITHOUT_RESULT", "ends", "finds", "speaks", "writes"]
