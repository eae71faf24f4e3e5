"""What the user configured: ``livelog_*`` keys of the Celery app, read once into one frozen object.

Nobody else reads ``app.conf``. In Django the keys are ``CELERY_LIVELOG_…``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from celery_livelog import checks, credentials
from celery_livelog.encodings import MIN_CHARACTERS, encoded
from celery_livelog.errors import SettingsError
from celery_livelog.redact import Redactor

_REDIS_SCHEMES = ("redis://", "rediss://", "redis+socket://", "unix://")
_CAPTURES = ("stdout", "stderr", "logging", "fd")


def _key(default: Any, check: Callable[[Any], Any], *, secret: bool = False) -> Any:
    return field(default=default, metadata={"check": check}, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One checked value per ``livelog_*`` key; ``docs/settings.md`` says what each does."""

    redis_url: str | None = _key(None, checks.optional(checks.url(*_REDIS_SCHEMES)), secret=True)
    key_prefix: str = _key("task:logs:", checks.text)
    maxlen: int = _key(10_000, checks.positive)
    expires: int = _key(86_400, checks.positive)
    dir: str = _key("", checks.text)
    archive_url: str = _key("", checks.url("file://", "memory://", "s3://", "gs://", "az://"), secret=True)
    keep_finished: int = _key(1000, checks.positive)
    database_url: str = _key("", checks.database, secret=True)
    spool_dir: str = _key("", checks.text)
    spool_max_bytes: int = _key(1 << 30, checks.positive)
    capture: tuple[str, ...] = _key(_CAPTURES, checks.names(*_CAPTURES))
    include: tuple[str, ...] = _key((), checks.names())
    exclude: tuple[str, ...] = _key((), checks.names())
    tee: bool = _key(True, checks.flag)
    shipper: str = _key("process", checks.one_of("process", "thread"))
    flower_unauthenticated: bool = _key(False, checks.flag)
    redact: tuple[str, ...] = _key((), checks.patterns, secret=True)
    redact_env: bool = _key(True, checks.flag)
    markers: tuple[str, ...] = _key((), checks.names("github", "buildkite", "gitlab"))
    run_dir: tuple[str, ...] = _key((), checks.run_dirs)
    shared_run_dir: tuple[str, ...] = _key((), checks.run_dirs)
    transport: str | None = _key(None, checks.optional(checks.websocket), secret=True)
    transport_token: str = _key("", checks.token, secret=True)
    timezone: str = _key("UTC", checks.zone)
    permission: str | None = _key(None, checks.optional(checks.dotted_path))
    secret_key: tuple[str, ...] = _key((), checks.keys, secret=True)
    # Without effect in this version.
    retention: Any = _key(2_592_000, lambda value: value)
    #: Whether `archive_url` was configured, which says that all who serve logs can read it.
    archive_shared: bool = False
    #: What is hidden in all that tasks print, as bytes because environment variables can be no UTF-8.
    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def from_conf(cls, conf: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings of a Celery app.

        :param conf: ``app.conf``, or a plain dict with the same keys.
        :param environment: the variables among which secrets are looked for.
        :raises SettingsError: for an unknown ``livelog_*`` key or a value that cannot be used.
        """
        known = {f"livelog_{key.name}": key for key in fields(cls) if key.metadata}
        for name in _livelog_keys(conf):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                raise SettingsError(f"{name} is not a setting of celery-livelog; did you mean {near}?")
        given: dict[str, Any] = {}
        for name, key in known.items():
            value = conf.get(name, _ABSENT)
            if value is not _ABSENT:
                try:
                    given[key.name] = key.metadata["check"](value)
                except ValueError as error:
                    raise SettingsError(f"{name} is {_shown(name, value)}; expected {error}") from None
        if given.get("transport") and not (given.get("transport_token") or given.get("secret_key")):
            raise SettingsError(
                "livelog_transport is set without livelog_transport_token; expected what "
                "`livelog token --ingest-account` of the relay prints, or file:// and the path of a file with it"
            )
        settings = cls(**_with_derived(given, conf))
        own = (settings.redis_url, settings.database_url, settings.archive_url)
        secrets = [
            *credentials.of_configuration(conf),
            *credentials.of_addresses(own),
            *credentials.of_environment(environment if settings.redact_env else {}),
            *settings.secret_key,
            settings.transport_token,
        ]
        texts = dict.fromkeys(text for text in secrets if len(text.strip()) >= MIN_CHARACTERS)
        return replace(settings, secrets=tuple(map(encoded, texts)))

    @property
    def redactor(self) -> Redactor:
        """Hides what is secret in this worker."""
        return Redactor(self.secrets, self.redact)

    @classmethod
    def from_json(cls, text: bytes) -> Settings:
        """Take over the settings that another process of this worker has read."""
        return msgspec.json.decode(text, type=cls)

    def to_json(self) -> bytes:
        """The settings for another process of this worker; they hold passwords."""
        return msgspec.json.encode(asdict(self))


_ABSENT = object()
#: Settings that an error message does not show as they are.
_HIDDEN = ("livelog_secret_key", "livelog_transport", "livelog_transport_token")


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
    keys = [str(key) for key in conf]  # first of all: this loads a Celery app's configuration
    prefix = (getattr(conf, "prefix", "") or "").lower()
    for key in keys:
        name = key.lower()
        if prefix and name.startswith(prefix):
            name = name[len(prefix) :]
        elif prefix and key.isupper():
            continue  # another app's, in the module that holds the settings of all
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
    zone = given.get("timezone") or _zone_of(conf)
    return {**derived, **given, "dir": str(home), "archive_shared": "archive_url" in given, "timezone": zone}


def _zone_of(conf: Mapping[str, Any]) -> str:
    """The time zone that was configured for Celery itself, else UTC."""
    value = conf.get("timezone")
    try:
        return checks.zone(getattr(value, "key", value)) or "UTC"  # a text or an object of zoneinfo
    except ValueError:
        return "UTC"


def _redis_of(conf: Mapping[str, Any]) -> str | None:
    """The Redis that Celery itself uses: the broker, else the result backend, else none."""
    for key in ("broker_url", "result_backend"):
        value = getattr(conf, key, None) or conf.get(key)  # the attribute knows of `celery --broker` too
        urls = value.split(";") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
        for url in urls:
            if str(url).startswith(_REDIS_SCHEMES):
                try:
                    return checks.address(str(url))
                except ValueError as error:
                    raise SettingsError(f"{key} is {_shown('_url', url)}; expected {error}") from None
    return None


def _shown(name: str, value: Any) -> str:
    """A value for an error message; of URLs, which hold passwords, only the scheme."""
    if name in _HIDDEN:
        return f"of type {type(value).__name__}"
    if name.endswith("_url"):
        return f"a URL with {str(value).partition('://')[0]}://" if "://" in str(value) else "not a URL"
    return repr(value)[:80]
