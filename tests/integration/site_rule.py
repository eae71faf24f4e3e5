"""The rule of a site in the tests' process: it answers what a test says, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_livelog.permissions import Viewer

PATH = f"{__name__}.may"

#: What it was asked: an action, and the task's or run's id.
asked: list[tuple[str, str]] = []
answer: Callable[[Viewer, str, Any], Any] = lambda viewer, action, task: True  # noqa: E731


def may(viewer: Viewer, action: str, task: Any) -> Any:
    """Whether a viewer may do something with a task, or with a run."""
    asked.append((action, getattr(task, "task_id", None) or task.run_id))
    return answer(viewer, action, task)


def says(given: Any) -> None:
    """Let it answer this from now on: a value, or what a function makes of the question."""
    global answer
    answer = given if callable(given) else lambda *_: given
    asked.clear()
