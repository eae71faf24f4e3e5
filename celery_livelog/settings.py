"""What the user configured: ``livelog_*`` keys of the Celery app, read once into one frozen object.

Nobody else reads ``app.conf``. In Django the keys are ``CELERY_LIVELOG_…``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from celery_livelog.errors import SettingsError

_REDIS_SCHEMES = ("redis://", "rediss://", "redis+socket://", "unix://")
_CAPTURES = ("stdout", "stderr", "logging", "fd")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("True or False")


def _positive(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("a whole number above 0")


def _text(value: Any) -> str:
    if isinstance(value, (str, os.PathLike)) and os.fspath(value):
        return os.fspath(value)
    raise ValueError("a text that is not empty")


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _url(*schemes: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, str) and value.startswith(schemes):
            return value
        raise ValueError(f"a URL with one of {', '.join(schemes)}")

    return check


def _names(*allowed: str) -> Callable[[Any], tuple[str, ...]]:
    def check(value: Any) -> tuple[str, ...]:
        names = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
        if all(isinstance(name, str) and (not allowed or name in allowed) for name in names):
            return names
        raise ValueError(f"a list of {' or '.join(map(repr, allowed)) if allowed else 'texts'}")

    return check


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value in allowed:
            return str(value)
        raise ValueError(" or ".join(map(repr, allowed)))

    return check


def _key(default: Any, check: Callable[[Any], Any]) -> Any:
    return field(default=default, metadata={"check": check})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One checked value per ``livelog_*`` key; ``docs/settings.md`` says what each does."""

    redis_url: str | None = _key(None, _optional(_url(*_REDIS_SCHEMES)))
    key_prefix: str = _key("task:logs:", _text)
    maxlen: int = _key(10_000, _positive)
    expires: int = _key(86_400, _positive)
    dir: str = _key("", _text)
    archive_url: str = _key("", _url("file://", "memory://", "s3://", "gs://", "az://"))
    keep_finished: int = _key(1000, _positive)
    database_url: str = _key("", _text)
    spool_dir: str = _key("", _text)
    spool_max_bytes: int = _key(1 << 30, _positive)
    capture: tuple[str, ...] = _key(_CAPTURES, _names(*_CAPTURES))
    include: tuple[str, ...] = _key((), _names())
    exclude: tuple[str, ...] = _key((), _names())
    tee: bool = _key(True, _flag)
    shipper: str = _key("process", _one_of("process", "thread"))
    flower_unauthenticated: bool = _key(False, _flag)
    # Known and checked, without effect in this version: see `without_effect`.
    redact: tuple[str, ...] = _key((), _names())
    redact_env: bool = _key(True, _flag)
    run_dir: str | None = _key(None, _optional(_text))
    shared_run_dir: str | None = _key(None, _optional(_text))
    timezone: str | None = _key(None, _optional(_text))
    retention: Any = _key(2_592_000, lambda value: value)
    permission: str | None = _key(None, _optional(_text))
    secret_key: str | None = _key(None, _optional(_text))
    transport: str | None = _key(None, _optional(_text))
    markers: Any = _key(None, lambda value: value)
    #: Whether `archive_url` was configured, which says that all who serve logs can read it.
    archive_shared: bool = False

    @classmethod
    def from_conf(cls, conf: Mapping[str, Any]) -> Settings:
        """Read the settings of a Celery app.

        :param conf: ``app.conf``, or a plain dict with the same keys.
        :raises SettingsError: for an unknown ``livelog_*`` key or a value that cannot be used.
        """
        checks = {f"livelog_{key.name}": key for key in fields(cls) if key.metadata}
        for name in _livelog_keys(conf):
            if name not in checks:
                near = difflib.get_close_matches(name, checks, n=1, cutoff=0.0)[0]
                raise SettingsError(f"{name} is not a setting of celery-livelog; did you mean {near}?")
        given: dict[str, Any] = {}
        for name, key in checks.items():
            value = conf.get(name, _ABSENT)
            if value is not _ABSENT:
                try:
                    given[key.name] = key.metadata["check"](value)
                except ValueError as error:
                    raise SettingsError(f"{name} is {_shown(name, value)}; expected {error}") from None
        for name in _PROTECTIVE:
            if given.get(name):
                raise SettingsError(
                    f"livelog_{name} is set; this version cannot honour it: remove it or leave livelog off"
                )
        return cls(**_with_derived(given, conf))

    def without_effect(self) -> list[str]:
        """The names of settings that were given but that this version does not act on."""
        passive = ("run_dir", "shared_run_dir", "timezone", "secret_key", "markers")
        return [f"livelog_{name}" for name in passive if getattr(self, name) is not None]

    @classmethod
    def from_json(cls, text: bytes) -> Settings:
        """Take over the settings that another process of this worker has read."""
        return msgspec.json.decode(text, type=cls)

    def to_json(self) -> bytes:
        """The settings for another process of this worker; they hold passwords."""
        return msgspec.json.encode(asdict(self))


_ABSENT = object()
#: Settings that guard something: going on without them would be worse than not starting.
_PROTECTIVE = ("redact", "permission", "transport")


def enabled(conf: Mapping[str, Any]) -> bool:
    """Whether the switch ``livelog`` is on.

    :raises SettingsError: when it is neither True nor False.
    """
    value = conf.get("livelog", False)
    if not isinstance(value, bool):
        raise SettingsError(f"livelog is {value!r}; expected True or False")
    return value


def _livelog_keys(conf: Mapping[str, Any]) -> Iterator[str]:
    """The ``livelog_*`` keys that `conf` holds, in lower case and without Django's ``CELERY_``."""
    names = [str(key).lower() for key in conf]  # first of all: this loads a Celery app's configuration
    prefix = (getattr(conf, "prefix", "") or "").lower()
    for name in names:
        name = name[len(prefix) :] if prefix and name.startswith(prefix) else name
        if name.startswith("livelog_"):
            yield name


def _with_derived(given: dict[str, Any], conf: Mapping[str, Any]) -> dict[str, Any]:
    home = Path(given.get("dir") or platformdirs.user_state_dir("celery-livelog")).absolute()
    derived = {
        "dir": str(home),
        "redis_url": _redis_of(conf),
        "archive_url": (home / "archive").as_uri(),
        "database_url": f"sqlite:///{home / 'catalog.sqlite3'}",
        "spool_dir": str(home / "spool"),
    }
    return {**derived, **given, "dir": str(home), "archive_shared": "archive_url" in given}


def _redis_of(conf: Mapping[str, Any]) -> str | None:
    """The Redis that Celery itself uses: the broker, else the result backend, else none."""
    for key in ("broker_url", "result_backend"):
        value = getattr(conf, key, None) or conf.get(key)  # the attribute knows of `celery --broker` too
        urls = value.split(";") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
        for url in urls:
            if str(url).startswith(_REDIS_SCHEMES):
                return str(url)
    return None


def _shown(name: str, value: Any) -> str:
    """A value for an error message; of URLs, which hold passwords, only the scheme."""
    if name.endswith("_url"):
        return f"a URL with {str(value).partition('://')[0]}://" if "://" in str(value) else "not a URL"
    return repr(value)[:80]
