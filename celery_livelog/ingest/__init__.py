"""Logs that are written from elsewhere, over a WebSocket."""

from celery_livelog.ingest.service import Ingest
from celery_livelog.ingest.session import LONGEST

__all__ = ["LONGEST", "Ingest"]
