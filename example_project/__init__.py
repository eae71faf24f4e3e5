"""An ordinary Celery project that uses celery-livelog: ``celery -A example_project worker``."""

from example_project.celery_app import app

__all__ = ["app"]
