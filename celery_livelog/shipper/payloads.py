"""Secrets in values of any kind: events, traces, results, key-values of log records. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from celery_livelog.redact import HIDDEN, Redactor

#: Fields of an event in which there may be anything; the others are texts, or numbers of ours.
_ANYTHING = ("data", "result", "fields")
#: Characters at which a task's process cuts the texts of large events; see `events`.
_CUT = 10_000


def hide_in_event(redactor: Redactor, event: dict[str, Any], ours: Collection[str]) -> dict[str, Any]:
    """An event, with all keys and values in its data.

    :param ours: the fields that are no text of users.
    """
    return {name: _field(redactor, name, value, ours) for name, value in event.items()}


def hide_in_dict(redactor: Redactor, value: dict[str, Any]) -> dict[str, Any]:
    """Key-values of any kind and depth."""
    hidden: dict[str, Any] = {}
    alike: Counter[str] = Counter()
    for key, item in value.items():
        name = shown = _string(redactor, key)
        while name in hidden:  # two secrets: both stay, each with its value
            alike[shown] += 1
            name = f"{shown} {alike[shown] + 1}"
        hidden[name] = _deep(redactor, item)
    return hidden


def _field(redactor: Redactor, name: str, value: Any, ours: Collection[str]) -> Any:
    if name in _ANYTHING:
        return _deep(redactor, value)
    return _string(redactor, value) if isinstance(value, str) and name not in ours else value


def _deep(redactor: Redactor, value: Any) -> Any:
    if isinstance(value, str):
        return _string(redactor, value)
    if isinstance(value, list):
        return [_deep(redactor, item) for item in value]
    if isinstance(value, dict):
        return hide_in_dict(redactor, value)
    if isinstance(value, (int, float)) and redactor(shown := str(value)) != shown:
        return HIDDEN
    return value


def _string(redactor: Redactor, text: str) -> str:
    return redactor.cut_off(text) if len(text) >= _CUT else redactor(text)
