"""How long a request may be held. Without asyncio each takes a thread of the server, which the rest of the site needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def patience(request: HttpRequest, query: LogQuery) -> Iterator[LogQuery]:
    """The query with a `wait` that the server can afford now; as long as this is open, it counts as held.

    :raises Refusal: for a `follow` that it cannot afford.
    """
    if isinstance(request, ASGIRequest) or not (query.wait or query.follow):
        yield query
        return
    held = _take(request)
    try:
        if held:
            yield query
        elif query.wait:
            yield replace(query, wait=min(query.wait, _AT_ONCE))
        else:
            raise Refusal(503, "too many logs are followed already; ask with wait= in place of follow=1")
    finally:
        if held:
            _give_back()


def _take(request: HttpRequest) -> bool:
    global _held
    if not request.META.get("wsgi.multithread", False):
        return False  # it would hold up all others of this process
    with _lock:
        if _held >= conf.held_requests():
            return False
        _held += 1
        return True


def _give_back() -> None:
    global _held
    with _lock:
        _held -= 1
