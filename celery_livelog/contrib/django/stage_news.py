"""What is new of a run's stages since it was last told, and how that is said. Pure.

Of each stage its start, its end, and of its progress the newest are told. How far that has come is a place: the
number of the record that was told last, below 0 when that was the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from django.contrib.messages import constants

from celery_livelog.runs import RunView, Stage

START, PROGRESS = "start", "progress"

_LEVELS = {"complete": constants.SUCCESS, "error": constants.ERROR, "interrupted": constants.WARNING}


@dataclass(frozen=True, slots=True)
class StageNews:
    """Something new of a stage. `kind` is start, progress, complete, error or interrupted."""

    kind: str
    run: RunView
    stage: Stage
    #: Where it is noted that it was told, and what.
    key: str
    place: int


def news(run: RunView, stages: Iterable[Stage], told: Mapping[str, int]) -> Iterator[StageNews]:
    """What is new, in the order in which it is told.

    :param told: the place that each stage was told up to.
    """
    for stage in stages:
        key = f"{stage.attempt[:8]}.{stage.stage}"  # short: some sessions are cookies
        place = told.get(key)
        if place is None:
            yield StageNews(START, run, stage, key, 0)
        if stage.state != "running":
            if place is None or place >= 0:
                yield StageNews(stage.state, run, stage, key, -1)
        elif stage.message and stage.n > (place or 0):
            yield StageNews(PROGRESS, run, stage, key, stage.n)


def message_of(new: StageNews) -> tuple[int, str] | None:
    """The level and the text of a message about it; None for no message. ``LIVELOG_STAGE_MESSAGE`` names another."""
    stage = new.stage
    before = f"{new.run.name or new.run.run_id}: {stage.name}"
    count = f"{stage.done} of {stage.total}" if stage.total else str(stage.done or "")
    if new.kind == START:
        return constants.INFO, f"{before}: started"
    if new.kind == PROGRESS:
        return constants.INFO, f"{before}: {' '.join(filter(None, (count, stage.message)))}"
    said = {"complete": f"complete, {stage.done} processed" if stage.done else "complete"}
    text = said.get(new.kind) or f"{new.kind}: {stage.error}".removesuffix(": ")
    return _LEVELS.get(new.kind, constants.INFO), f"{before}: {text}"
