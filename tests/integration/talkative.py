"""Tasks that pytest-celery copies to its worker."""

from __future__ import annotations

from celery import shared_task


@shared_task
def talk(count: int) -> int:
    """Print `count` numbered lines."""
    for number in range(1, count + 1):
        print("talking", number)
    return count
