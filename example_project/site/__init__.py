"""A small Django site: two accounts start pipelines and watch them. Its Celery app is made with it, as everywhere."""

from example_project.site.celery_app import app

__all__ = ["app"]
