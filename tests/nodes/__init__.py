"""Servers for the tests, each a real process of this machine: Valkey, Celery workers, Flower. Needs no Docker."""
