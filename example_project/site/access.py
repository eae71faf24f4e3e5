"""Accounts are groups, and a user sees what was begun for an account that the user is in."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from celery_livelog.contrib.django.access import EVERYTHING, Scope


def scope(request: HttpRequest) -> Any:
    """What the user of a request may see; `LIVELOG_SCOPE` names it."""
    if request.user.is_staff:
        return EVERYTHING
    return [Scope(account=group.name) for group in request.user.groups.all()]


def account_of(request: HttpRequest) -> str:
    """The account for which a user starts pipelines; empty when the user is in none."""
    group = request.user.groups.first()
    return group.name if group else ""
