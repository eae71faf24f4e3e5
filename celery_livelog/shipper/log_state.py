"""What a shipper leaves to the next one about a log in the middle of which it stands."""

from __future__ import annotations

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.runs import Run
from celery_livelog.shipper.marked import MarkedState
from celery_livelog.shipper.projection import ProjectionState
from celery_livelog.shipper.redaction import RedactionState
from celery_livelog.shipper.splitting import SplittingState
from celery_livelog.shipper.stages import StagesState


class LogState(msgspec.Struct, array_like=True):
    """Where an attempt's log stands, so that another shipper can go on from there."""

    attempt: Attempt
    requeued: bool
    n: int
    stages: StagesState
    marked: MarkedState
    unfinished: SplittingState
    redaction: RedactionState
    run: Run | None
    projection: ProjectionState | None = None
    inner: list[Run] = []
