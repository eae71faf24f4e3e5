"""Logs that are written from elsewhere, over a WebSocket."""

from celery_livelog.ingest.service import Ingest

__all__ = ["Ingest"]
