"""What counts as secret around a worker: variables by their names, passwords in URLs."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog import credentials


@pytest.mark.parametrize(
    "name",
    ["DB_PASSWORD", "MYSQL_PASSWD", "PGPASSWORD", "APP_SECRET", "GH_TOKEN", "AWS_SECRET_ACCESS_KEY", "SIGNING_KEY",
     "STRIPE_API_KEY", "TLS_PRIVATE_KEY", "GCP_CREDENTIALS", "PASSWORD", "SECRET", "TOKEN", "KEY", "api_token",
     "DB_PASS", "SSH_PASSPHRASE", "BASIC_AUTH", "REFRESH_TOKENS"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    """The value of a variable that is named like a secret is one."""
    assert list(credentials.of_environment({name: "the value"})) == ["the value"]


@pytest.mark.parametrize(
    "name", ["PATH", "PWD", "MONKEY", "COMPASS", "KEYBOARD", "TOKENIZERS", "PASSWORD_FILE", "HOME"]
)
def test_names_of_other_things(name: str) -> None:
    """The directory a worker runs in is no password."""
    assert list(credentials.of_environment({name: "the value"})) == []


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("DATABASE_DSN", "postgresql://me:pa%40ss@db/x", {"pa%40ss", "pa@ss"}),
        ("DATABASE_URL", "postgresql://me:pass@db/x?sslpassword=more", {"pass", "more"}),
        ("SENTRY_DSN", "https://public@sentry.example/1", set()),
        ("SOME_URL", "https://example.org/a:b@c", set()),
        ("REPORTS_DSN", "host=db user=me password=pass dbname=x", {"pass"}),
        ("VAULT_TOKEN", "https://me:pass@vault", {"pass"}),
        ("HOOK_SECRET", "https://example.org/hook/T0123", {"https://example.org/hook/T0123"}),
    ],
)
def test_values_that_are_addresses(name: str, value: str, secrets: set[str]) -> None:
    """Of a URL the password alone, as written and as meant; what has none is secret as a whole if its name says so."""
    assert set(credentials.of_environment({name: value})) == secrets


@pytest.mark.parametrize(
    ("conf", "secrets"),
    [
        ({"broker_url": "amqp://me:one@a//;amqp://me:two@b//"}, {"one", "two"}),
        ({"broker_url": ["redis://:one@a", "redis://:two@b"]}, {"one", "two"}),
        ({"broker_read_url": "amqp://me:one@a//", "result_backend": "db+mysql://me:two@b/x"}, {"one", "two"}),
        ({"result_backend": "sentinel://:a:b@one:1;sentinel://:c@two:2"}, {"a:b", "c"}),
        (
            {"redis_password": "one", "s3_secret_access_key": "two", "task_default_routing_key": "celery"},
            {"one", "two"},
        ),
        ({"broker_url": None, "result_backend": ""}, set()),
    ],
)
def test_celerys_own_settings(conf: dict[str, Any], secrets: set[str]) -> None:
    """Several brokers, all backends, and what has a key of its own; read from an app as from a dict."""
    app = Celery("credentials", set_as_current=False)
    app.conf.update(conf)
    assert set(credentials.of_configuration(conf)) == secrets
    assert set(credentials.of_configuration(app.conf)) == secrets


@given(st.text(), st.text(min_size=1))
def test_no_address_is_too_odd(address: str, password: str) -> None:
    """Whatever a variable holds."""
    list(credentials.of_address(address))
    list(credentials.of_environment({"A_URL": f"redis://:{password}@host", password: address}))
