"""Everything that celery-livelog raises, and the one line that its own faults leave behind."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable

from celery_livelog.interrupts import is_interrupt


class LivelogError(Exception):
    """Base of all errors of this package. Its message says what was found, what was expected, what to do."""


class SettingsError(LivelogError):
    """Raised when a ``livelog_*`` setting is unknown or has a value that cannot be used."""


class SpoolError(LivelogError):
    """Raised when the directory for journals cannot be used."""


class CursorError(LivelogError):
    """Raised when a text is not a cursor of the form ``attempt:n``."""


class TokenError(LivelogError):
    """Raised when a token is not accepted; its text does not say what a better one would be."""


class AccessError(LivelogError):
    """Raised when a log that is being read may not be seen any longer."""


class ArchiveError(LivelogError):
    """Raised when an archived log cannot be stored, or is damaged."""


class SchemaError(LivelogError):
    """Raised when the tables of the catalog are those of another version."""


class StoreError(LivelogError):
    """Raised when Redis does not answer a reader, or the catalog one that asks for runs."""


class RelayError(LivelogError):
    """Raised when the relay that a worker's logs go to does not take them now."""


class RelayRefusal(RelayError):
    """Raised when it never will: this worker's token does not cover them."""


def said(error: BaseException) -> str:
    """What an exception says, or only its type when it cannot even say that."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as fault:
        if is_interrupt(fault):
            raise
        return type(error).__name__


_QUIET_SECONDS = 60.0
_last_said: dict[str, float] = {}
_hide: Callable[[str], str] = str


def hide_in_messages(redactor: Callable[[str], str]) -> None:
    """Let this take the secrets out of what `complain` says in this process: errors of libraries show whole URLs."""
    global _hide
    _hide = redactor


def without_secrets(text: str) -> str:
    """A text as it may be shown."""
    return _hide(text)


def complain(what: str, error: BaseException | None = None) -> None:
    """Say on the real stderr that something of ours failed, at most once a minute for each `what`."""
    now = time.monotonic()
    if now - _last_said.get(what, -_QUIET_SECONDS) < _QUIET_SECONDS:
        return
    _last_said[what] = now
    reason = "".join(traceback.format_exception_only(type(error), error)).strip() if error else ""
    report(f"{what}{': ' if reason else ''}{reason}")


def report(what: str) -> None:
    """Say something on the real stderr. Never through ``logging``: a log handler of ours could be what failed."""
    if sys.__stderr__ is None:
        return
    try:
        sys.__stderr__.write(without_secrets(f"celery-livelog: {what}\n"))
        sys.__stderr__.flush()
    except (OSError, ValueError):
        pass
