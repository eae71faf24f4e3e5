"""Live logs for Celery: what a task prints, line by line, while it runs."""

from celery_livelog.masking import mask
from celery_livelog.signals import install
from celery_livelog.stages import stage

__all__ = ["install", "mask", "stage"]
__version__ = "0.1.0"
