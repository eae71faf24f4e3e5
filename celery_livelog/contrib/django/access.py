"""Who may see what: the one door through which every route, tag and message goes.

A user who is logged in sees what ``LIVELOG_SCOPE`` gives. Whatever goes wrong while that is asked, nothing is seen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest

from celery_livelog.contrib.django import conf
from celery_livelog.permissions import EVERYTHING, Scope, ScopeError, Seen, Viewer, seen

__all__ = ["EVERYTHING", "Scope", "ScopeError", "staff", "viewer_of"]

logger = logging.getLogger("celery_livelog.contrib.django")


def staff(request: HttpRequest) -> Any:
    """The default scope: staff sees everything, and nobody else anything."""
    user = request.user
    return EVERYTHING if user.is_active and user.is_staff else None


def viewer_of(request: HttpRequest) -> Viewer | None:
    """Who sends a request; None when nobody is logged in. May ask the database."""
    user = getattr(request, "user", None)
    return None if user is None or not user.is_authenticated else _viewer(request, _seen_by(request))


def owner_of(request: HttpRequest, owners: Iterable[str]) -> Viewer | None:
    """Who sends a request, as one who sees the runs of these owners alone. May ask the database."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    return _viewer(request, tuple(Scope(owner=owner) for owner in owners))


def _viewer(request: HttpRequest, seen: Seen) -> Viewer:
    address = request.META.get("REMOTE_ADDR") or ""
    return Viewer(via="django", name=str(request.user), address=address, seen=seen, user=request.user)


def _seen_by(request: HttpRequest) -> Seen:
    user = request.user
    if not user.is_active:
        return ()
    try:
        return seen(conf.scope()(request))
    except Exception:  # it is the site's code: a scope that is not known holds nothing
        logger.exception("LIVELOG_SCOPE failed for user %s, who therefore sees nothing", user.pk)
        return ()
