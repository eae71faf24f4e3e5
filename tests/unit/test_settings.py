"""The ``livelog_*`` keys of a Celery app, and what becomes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery

from celery_livelog.errors import SettingsError
from celery_livelog.settings import Settings, enabled


def read(**conf: Any) -> Settings:
    return Settings.from_conf(conf)


def app_with(**conf: Any) -> Celery:
    app = Celery("settings", set_as_current=False)
    app.conf.update(conf)
    return app


def test_nothing_needs_to_be_set() -> None:
    """All files are below one directory of the user's, and no Redis is invented."""
    settings = read()
    assert settings.redis_url is None
    assert settings.archive_url == (Path(settings.dir) / "archive").as_uri()
    assert settings.database_url == f"sqlite:///{settings.dir}/catalog.sqlite3"
    assert settings.spool_dir == f"{settings.dir}/spool"
    assert (settings.key_prefix, settings.maxlen, settings.expires) == ("task:logs:", 10_000, 86_400)


def test_livelog_dir_moves_everything(tmp_path: Path) -> None:
    """Archive, catalog and journals go where ``livelog_dir`` says, unless one is set apart."""
    settings = read(livelog_dir=str(tmp_path), livelog_spool_dir="/dev/shm/spool")
    assert settings.archive_url == f"file://{tmp_path}/archive"
    assert settings.database_url == f"sqlite:///{tmp_path}/catalog.sqlite3"
    assert settings.spool_dir == "/dev/shm/spool"


@pytest.mark.parametrize(
    ("conf", "url"),
    [
        ({"broker_url": "redis://broker/1", "result_backend": "redis://backend/2"}, "redis://broker/1"),
        ({"broker_url": "amqp://broker", "result_backend": "rediss://backend/2"}, "rediss://backend/2"),
        ({"broker_url": "amqp://broker;redis://second/0"}, "redis://second/0"),
        ({"broker_url": ["redis://first/0", "redis://second/0"]}, "redis://first/0"),
        ({"broker_url": "redis://broker/1", "livelog_redis_url": "redis://other/3"}, "redis://other/3"),
        ({"broker_url": "amqp://broker", "result_backend": "db+sqlite:///results"}, None),
        ({}, None),
    ],
)
def test_the_redis_is_celerys_own(conf: dict[str, Any], url: str | None) -> None:
    """The broker if it is Redis, else the result backend, else none; what is set for livelog goes first."""
    assert read(**conf).redis_url == url


def test_the_redis_given_on_the_command_line_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """``celery --broker URL`` reaches the app by an environment variable, and is the broker then."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://from-the-command-line/0")
    assert Settings.from_conf(app_with().conf).redis_url == "redis://from-the-command-line/0"


def test_a_celery_app_is_read_as_it_is() -> None:
    """Settings come from ``app.conf`` in each of the ways that Celery offers."""
    app = app_with(livelog_maxlen=5)
    app.conf.livelog_expires = 60
    settings = Settings.from_conf(app.conf)
    assert (settings.maxlen, settings.expires) == (5, 60)


def test_django_names_are_read() -> None:
    """In Django, where Celery's namespace is CELERY, a key is ``CELERY_LIVELOG_…``."""
    app = Celery("django", set_as_current=False)
    app.config_from_object({"CELERY_LIVELOG": True, "CELERY_LIVELOG_MAXLEN": 5}, namespace="CELERY")
    assert enabled(app.conf)
    assert Settings.from_conf(app.conf).maxlen == 5


def test_an_unknown_django_name_is_an_error() -> None:
    """A mistyped key is found under Django's names too."""
    app = Celery("django", set_as_current=False)
    app.config_from_object({"CELERY_LIVELOG_MAXLENGTH": 5}, namespace="CELERY")
    with pytest.raises(SettingsError, match="did you mean livelog_maxlen"):
        Settings.from_conf(app.conf)


def test_an_unknown_key_names_the_nearest() -> None:
    """A mistyped key is never ignored."""
    with pytest.raises(SettingsError, match=r"livelog_archive_uri is not .* did you mean livelog_archive_url\?"):
        read(livelog_archive_uri="file:///logs")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("livelog_redis_url", "http://somewhere"),
        ("livelog_key_prefix", ""),
        ("livelog_maxlen", 0),
        ("livelog_maxlen", True),
        ("livelog_expires", "3600"),
        ("livelog_archive_url", "/var/log"),
        ("livelog_capture", ["stdin"]),
        ("livelog_tee", "yes"),
        ("livelog_shipper", "goroutine"),
        ("livelog_redact", ["fine", "("]),
        ("livelog_redact", ["a*"]),
        ("livelog_redact", [5]),
        ("livelog_redact_env", 1),
    ],
)
def test_a_value_that_cannot_be_used_is_an_error(key: str, value: Any) -> None:
    """The error names the key and what was expected."""
    with pytest.raises(SettingsError, match=f"^{key} is .*; expected "):
        read(**{key: value})


def test_an_error_does_not_show_a_password() -> None:
    """Of a URL that cannot be used, only the scheme is shown."""
    with pytest.raises(SettingsError) as error:
        read(livelog_redis_url="http://user:secret@host")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "conf",
    [
        {"livelog_redis_url": "redis://:hunter2/x@host/0"},
        {"livelog_redis_url": "http://:hunter2@host"},
        {"broker_url": "redis://:hunter2/x@host/0"},
        {"livelog_archive_url": "s3://user:hunter2]@[bucket"},
        {"livelog_database_url": "postgresql://me:p@hunter2:x@host/db"},
        {"livelog_transport": b"wss://user:hunter2@host"},
        {"livelog_transport": "wss://user:hunter2@host/ingest"},
        {"livelog_transport_token": "hunter2 hunter2"},
        {"livelog_secret_key": b"hunter2"},
    ],
)
def test_no_error_shows_a_password(conf: dict[str, Any]) -> None:
    """Where a library would take the password, or a part of it, for the port, and say so."""
    with pytest.raises(SettingsError) as error:
        read(**conf)
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_bad_pattern_is_named() -> None:
    """Among many, the one that cannot be used."""
    with pytest.raises(SettingsError, match=r"^livelog_redact is .*'\(' is none: missing \)"):
        read(livelog_redact=["fine"] * 50 + ["("])


SECRET_CONF = {
    "broker_url": "amqp://me:broker-pw@host//",
    "livelog_redis_url": "redis://:redis%20pw@host/0",
    "livelog_database_url": "postgresql://me:database-pw@host/x",
    "livelog_archive_url": "s3://key:archive-pw@bucket",
    "livelog_secret_key": "signing-key",
    "livelog_redact": [r"tok_\w+"],
}
SECRETS = {b"broker-pw", b"redis%20pw", b"redis pw", b"database-pw", b"archive-pw", b"signing-key"}


def test_secrets_are_collected() -> None:
    """Passwords of all URLs, the key, variables named like secrets; short ones are none. What is hidden is that."""
    settings = Settings.from_conf(SECRET_CONF, {"APP_TOKEN": "\udcffenv-token", "A_KEY": "short", "PATH": "/usr/bin"})
    assert set(settings.secrets) == SECRETS | {b"\xffenv-token"}
    assert settings.redactor("redis pw, tok_1, \\xffenv-token and short") == "***, ***, *** and short"
    assert Settings.from_json(settings.to_json()) == settings


def test_the_environment_is_left_alone_on_request() -> None:
    """``livelog_redact_env = False``."""
    settings = Settings.from_conf({**SECRET_CONF, "livelog_redact_env": False}, {"APP_TOKEN": "env-token"})
    assert set(settings.secrets) == SECRETS


def test_settings_show_no_secret() -> None:
    """Not when they are printed or in a traceback's locals."""
    shown = repr(Settings.from_conf(SECRET_CONF, {"APP_TOKEN": "env-token"}))
    assert not [secret for secret in (*SECRETS, b"env-token", b"tok_") if secret.decode() in shown]
    assert "maxlen=10000" in shown


@pytest.mark.parametrize("value", [1, "True", None])
def test_the_switch_is_true_or_false(value: Any) -> None:
    """``livelog`` set to anything else is a mistake to be told of."""
    with pytest.raises(SettingsError, match="expected True or False"):
        enabled({"livelog": value})


def test_the_switch_is_off_unless_set() -> None:
    """Installing the package changes nothing by itself."""
    assert not enabled({})
    assert enabled({"livelog": True})


def test_an_archive_that_was_configured_is_shared() -> None:
    """Only an archive that somebody has named is one that other machines can be expected to read."""
    assert not read().archive_shared
    assert read(livelog_archive_url="file:///logs").archive_shared


def test_another_process_gets_the_same_settings() -> None:
    """All settings survive the way to the shipper."""
    settings = read(broker_url="redis://broker/1", livelog_include=["proj.*"], livelog_tee=False)
    assert Settings.from_json(settings.to_json()) == settings


def test_settings_cannot_be_changed() -> None:
    """What was read once stays as it was read."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().maxlen = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("conf", "zone"),
    [
        ({}, "UTC"),
        ({"timezone": "Asia/Tokyo"}, "Asia/Tokyo"),
        ({"timezone": ZoneInfo("Asia/Tokyo")}, "Asia/Tokyo"),
        ({"timezone": "Asia/Tokyo", "livelog_timezone": "Europe/Berlin"}, "Europe/Berlin"),
        ({"timezone": "Asia/Tokyo", "livelog_timezone": None}, "Asia/Tokyo"),
        ({"timezone": "no such zone"}, "UTC"),
    ],
)
def test_the_time_zone(conf: dict[str, Any], zone: str) -> None:
    """What is set for livelog, else for Celery, else UTC; an app says the same as a dict."""
    assert read(**conf).timezone == zone
    assert Settings.from_conf(app_with(**conf).conf).timezone == zone


@pytest.mark.parametrize(
    ("zone", "near"), [("Europe/Berln", "Europe/Berlin"), ("berlin", "Europe/Berlin"), ("../etc", ""), (5, "")]
)
def test_a_time_zone_that_there_is_not(zone: Any, near: str) -> None:
    """The error names the nearest one."""
    with pytest.raises(SettingsError, match=rf"^livelog_timezone is .*; expected .*; did you mean {near}.*\?$"):
        read(livelog_timezone=zone)


@pytest.mark.parametrize(
    "url", ["https://host/ingest", "ws://host/ingest", "ws://127.0.0.1.evil/", "wss://", "wss:///x", 5]
)
def test_the_way_to_a_relay_is_encrypted(url: Any) -> None:
    """Unless it does not leave this machine."""
    with pytest.raises(SettingsError, match=r"^livelog_transport is .*; expected a URL"):
        read(livelog_transport=url, livelog_transport_token="t")
    for fine in ("wss://host/ingest", "ws://127.0.0.1:5556/ingest", "ws://[::1]/ingest", "ws://localhost/ingest"):
        assert read(livelog_transport=fine, livelog_transport_token="t").transport == fine


def test_a_relay_wants_a_token() -> None:
    """It is a secret like others."""
    with pytest.raises(SettingsError, match="livelog_transport is set without livelog_transport_token"):
        read(livelog_transport="wss://host/ingest")
    given = read(livelog_transport="wss://host/ingest", livelog_transport_token="hunter2-hunter2")
    assert b"hunter2-hunter2" in given.secrets
    assert "hunter2" not in repr(given)
