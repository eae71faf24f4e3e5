"""Live logs for Celery: what a task prints, line by line, while it runs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_livelog.access.issuing import token
    from celery_livelog.iteration import progress
    from celery_livelog.masking import mask
    from celery_livelog.run_context import run
    from celery_livelog.signals import install
    from celery_livelog.stages import stage, trace

__all__ = ["install", "mask", "progress", "run", "stage", "token", "trace"]
__version__ = "0.1.0"

_HOMES = {
    "install": "signals",
    "mask": "masking",
    "progress": "iteration",
    "run": "run_context",
    "stage": "stages",
    "token": "access.issuing",
    "trace": "stages",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is asked for: every ``celery`` command imports this module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "run":  # the code that sends tasks is often no worker's: nobody else has connected there
        import_module("celery_livelog.signals").connect_publishing()
    value = globals()[name] = getattr(import_module(f"celery_livelog.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
