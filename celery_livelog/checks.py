"""What values settings may have. Each check gives the value, or raises `ValueError` that says what was expected."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import zoneinfo
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from celery_livelog.redact import compiled
from celery_livelog.run_layouts import RunLayout

_NAME = r"[^\W\d]\w*"
_PATH = re.compile(rf"{_NAME}(\.{_NAME})*[.:]{_NAME}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_QUOTED = "a URL whose password is percent-encoded"


def flag(value: Any) -> bool:
    """True or False, and nothing that only counts as such."""
    if isinstance(value, bool):
        return value
    raise ValueError("True or False")


def positive(value: Any) -> int:
    """A whole number above 0."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("a whole number above 0")


def text(value: Any) -> str:
    """A text or path."""
    if isinstance(value, (str, os.PathLike)) and os.fspath(value):
        return os.fspath(value)
    raise ValueError("a text that is not empty")


def optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What a check takes, or None."""
    return lambda value: None if value is None else check(value)


def address(value: Any) -> str:
    """A URL that can be taken apart. Asked here, since the errors of libraries show a part of the password."""
    given = text(value)
    try:
        urlsplit(given).port  # noqa: B018 - raises
    except ValueError:
        raise ValueError(_QUOTED) from None
    return given


def url(*schemes: str) -> Callable[[Any], str]:
    """A URL that begins in one of these ways."""

    def check(value: Any) -> str:
        if isinstance(value, str) and value.startswith(schemes):
            return address(value)
        raise ValueError(f"a URL with one of {', '.join(schemes)}")

    return check


def websocket(value: Any) -> str:
    """The URL of a relay's `/ingest`: encrypted, unless it does not leave this machine."""
    given = url("wss://", "ws://")(value)
    parts = urlsplit(given)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL without a user or password: the token has a setting of its own")
    if parts.scheme == "ws" and parts.hostname not in _LOOPBACK:
        raise ValueError("a URL with wss://; ws://, which anybody on the way can read, only to this machine")
    if not parts.hostname:
        raise ValueError("a URL with the name of a relay, such as wss://logs.example.org/ingest")
    if importlib.util.find_spec("websockets") is None:
        raise ValueError("the package websockets to be installed: pip install 'celery-livelog[transport]'")
    return given


def token(value: Any) -> str:
    """A token, or where it is."""
    given = text(value).strip()
    if not given or any(character.isspace() for character in given) or not given.isascii():
        raise ValueError("a token in one piece, or file:// and the path of a file with it")
    return given


def database(value: Any) -> str:
    """A URL of a database. For SQLAlchemy the first @ ends the password; what follows is shown in its error."""
    given = address(value)
    if urlsplit(given).netloc.count("@") > 1:
        raise ValueError(_QUOTED)
    return given


def names(*allowed: str) -> Callable[[Any], tuple[str, ...]]:
    """One or several texts: of these, or any."""

    def check(value: Any) -> tuple[str, ...]:
        given = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
        if all(isinstance(name, str) and (not allowed or name in allowed) for name in given):
            return given
        raise ValueError(f"a list of {' or '.join(map(repr, allowed)) if allowed else 'texts'}")

    return check


def keys(value: Any) -> tuple[str, ...]:
    """One or several keys: the first signs, all are accepted; none for None."""
    given = tuple(value) if isinstance(value, (list, tuple)) else () if value is None else (value,)
    if all(isinstance(key, str) and key.strip() for key in given):
        return given
    raise ValueError("a text, or a list of texts of which the first signs and all are accepted")


def dotted_path(value: Any) -> str:
    """Where a function is: ``module.function`` or ``module:function``. It is imported by those who need it."""
    if isinstance(value, str) and _PATH.fullmatch(value):
        return value
    raise ValueError("the dotted path of a function, such as 'proj.permissions.may' or 'proj.permissions:may'")


def patterns(value: Any) -> tuple[str, ...]:
    """One or several regular expressions that match secrets."""
    given = names()(value)
    for pattern in given:
        try:
            compiled(pattern)
        except ValueError as error:
            raise ValueError(f"regular expressions that match secrets; {error}") from None
    return given


def run_dirs(value: Any) -> tuple[str, ...]:
    """One or several templates of run directories, made absolute; None for none."""
    given = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    return tuple(RunLayout.parse(text(template)).text for template in given)


def zone(value: Any) -> str:
    """The name of a time zone; nothing for None."""
    if value is None:
        return ""
    name = str(value)
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: of a directory, such as "Europe"
        known = {known.casefold(): known for known in zoneinfo.available_timezones()}
        near = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.0)
        nearest = f"; did you mean {known[near[0]]}?" if near else ", and the system's time zones (package tzdata)"
        raise ValueError(f"the name of a time zone such as Europe/Berlin{nearest}") from None
    return name


def one_of(*allowed: str) -> Callable[[Any], str]:
    """One of these texts."""

    def check(value: Any) -> str:
        if value in allowed:
            return str(value)
        raise ValueError(" or ".join(map(repr, allowed)))

    return check
