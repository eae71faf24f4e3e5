"""Settings out of the environment, for programs that have no Celery app."""

from __future__ import annotations

import pytest

from celery_livelog.environment import settings_of
from celery_livelog.errors import SettingsError
from celery_livelog.settings import Settings


def read(**given: str) -> Settings:
    return settings_of({f"LIVELOG_{name.upper()}": text for name, text in given.items()})


def test_each_kind_of_value() -> None:
    """Texts, numbers, flags, and lists: of names with commas between."""
    settings = read(redis_url="redis://host:1/0", maxlen="500", tee="0", markers="github, gitlab")
    assert (settings.redis_url, settings.maxlen, settings.tee) == ("redis://host:1/0", 500, False)
    assert settings.markers == ("github", "gitlab")


def test_keys_and_patterns_may_have_commas() -> None:
    """They stand one a line."""
    assert read(secret_key="a key, with a comma").secret_key == ("a key, with a comma",)
    assert read(secret_key="the new one\nthe old one\n").secret_key == ("the new one", "the old one")
    assert read(redact=r"sk-\w{1,3}").redact == (r"sk-\w{1,3}",)


def test_what_is_given_goes_first() -> None:
    """An option of a command before a variable."""
    given = settings_of({"LIVELOG_REDIS_URL": "redis://a:1/0"}, redis_url="redis://b:1/0", dir=None)
    assert given.redis_url == "redis://b:1/0"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("maxlen", "many", "livelog_maxlen"),
        ("tee", "perhaps", "livelog_tee"),
        ("maxlem", "1", "did you mean livelog_maxlen"),
    ],
)
def test_what_cannot_be_used(name: str, text: str, said: str) -> None:
    """One line names the setting."""
    with pytest.raises(SettingsError, match=said):
        read(**{name: text})
