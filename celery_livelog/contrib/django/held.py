"""How long a request may be held. Without asyncio each takes a thread of the server that the rest of the site needs."""

from __future__ import annotations

import threading
from dataclasses import replace

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from celery_livelog.contrib.django import conf
from celery_livelog.web.answers import Refusal
from celery_livelog.web.log_query import LogQuery

#: Seconds that an answer may take where none can be held.
_AT_ONCE = 0.05

_lock = threading.Lock()
_held = 0


class Place:
    """A request's place among those that are held, until it is released."""

    def __init__(self, taken: bool = False) -> None:
        self._taken = taken

    def release(self) -> None:
        """Leave it to others. Harmless when done twice."""
        global _held
        with _lock:
            _held -= self._taken
            self._taken = False


def afford(request: HttpRequest, query: LogQuery) -> tuple[Place, LogQuery]:
    """A place for a query that may have to wait, and the query with a `wait` that the server can afford now.

    :raises Refusal: for a `follow` that it cannot afford.
    """
    if isinstance(request, ASGIRequest) or not (query.wait or query.follow):
        return Place(), query
    if _take(request):
        return Place(taken=True), query
    if query.wait:
        return Place(), replace(query, wait=min(query.wait, _AT_ONCE))
    raise Refusal(503, "too many logs are followed already; ask with wait= in place of follow=1")


def _take(request: HttpRequest) -> bool:
    global _held
    if not request.META.get("wsgi.multithread", False):
        return False  # it would hold up all others of this process
    with _lock:
        if _held >= conf.held_requests():
            return False
        _held += 1
        return True
