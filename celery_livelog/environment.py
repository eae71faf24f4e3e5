"""Settings for programs without a Celery app: ``LIVELOG_REDIS_URL`` in the environment is ``livelog_redis_url``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from celery_livelog.settings import Settings

_PREFIX = "LIVELOG_"
#: What options of a command's own begin with; they are no settings.
_OPTIONS = ("LIVELOG_RELAY_",)
#: Lists of what has no commas in it; keys, patterns and paths may have some.
_NAMES = ("capture", "include", "exclude", "markers")
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def settings_of(environment: Mapping[str, str], **given: Any) -> Settings:
    """The settings that an environment holds.

    Flags are written as 1 or 0, lists of names with commas between, all other lists with one item a line.

    :param given: settings by name, such as `redis_url`, that go before those of the environment; None is not given.
    :raises SettingsError: for an unknown ``LIVELOG_*`` variable, or a value that cannot be used.
    """
    names = [name for name in environment if name.startswith(_PREFIX) and not name.startswith(_OPTIONS)]
    found = {name[len(_PREFIX) :].lower(): environment[name] for name in names}
    conf = {f"livelog_{name}": _value(name, text) for name, text in found.items()}
    conf.update({f"livelog_{name}": value for name, value in given.items() if value is not None})
    return Settings.from_conf(conf, environment)


def _value(name: str, text: str) -> Any:
    """What a text stands for; what is no such value is left to the check of the setting."""
    default = next((key.default for key in fields(Settings) if key.name == name), None)
    if isinstance(default, bool):
        return _FLAGS.get(text.lower(), text)
    if isinstance(default, int):
        return int(text) if text.isdecimal() else text
    if isinstance(default, tuple):
        parts = text.split(",") if name in _NAMES else text.splitlines()
        return tuple(part.strip() for part in parts if part.strip())
    return text
