"""What is secret in a worker's surroundings: environment variables named like secrets, passwords in URLs.

Pure: environment and configuration are passed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

#: Names whose values are secrets. `KEY`, `PASS` and the like only as a word of their own: not MONKEY, not COMPASS.
_SECRET_NAME = re.compile(
    r"(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|APIKEY)S?$|(?:^|_)(?:KEY|PASS|CREDENTIALS?|AUTH)S?$", re.IGNORECASE
)
#: Names whose values are URLs or "key=value" texts with a password in them.
_ADDRESS_NAME = re.compile(r"(?:^|_)(?:DSN|UR[LI]|CONNECTION_STRING)S?$", re.IGNORECASE)
#: Celery's own settings that are secrets. Not all that end in "key": `task_default_routing_key` is none.
_SECRET_SETTING = re.compile(r"(?:password|passwd|secret|token|secret_key|secret_access_key)$", re.IGNORECASE)
_ADDRESS_SETTINGS = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_USERINFO = re.compile(r"://[^/?#;@:]*:([^/?#;]*)@")
_PARAMETER = re.compile(
    r"(?:^|[?&;\s])\w*(?:password|passwd|pwd|secret|token|api_?key|access_?key|signature|sig)=([^&;\s]+)", re.IGNORECASE
)


def of_environment(environment: Mapping[str, str]) -> Iterator[str]:
    """The secrets among environment variables; of values that are URLs, their passwords alone."""
    for name, value in environment.items():
        if _ADDRESS_NAME.search(name):
            yield from of_address(value)
        elif _SECRET_NAME.search(name):
            passwords = list(of_address(value)) if _SCHEME.match(value) else []
            yield from passwords or [value]


def of_configuration(configuration: Mapping[str, Any]) -> Iterator[str]:
    """The passwords in the settings of a Celery app."""
    for name in _ADDRESS_SETTINGS:
        # The attribute knows of `celery --broker` too.
        yield from of_addresses(getattr(configuration, name, None) or configuration.get(name))
    for name in list(configuration):
        value = configuration.get(name) if _SECRET_SETTING.search(str(name)) else None
        if isinstance(value, str):
            yield value


def of_addresses(addresses: object) -> Iterator[str]:
    """The passwords in one address or several, as brokers take them."""
    for address in addresses if isinstance(addresses, Iterable) and not isinstance(addresses, str) else (addresses,):
        if isinstance(address, str):
            yield from of_address(address)


def of_address(address: str) -> Iterator[str]:
    """The passwords in a URL, in several with ";" between, or in "host=… password=…"; as written and decoded."""
    for found in (*_USERINFO.findall(address), *_PARAMETER.findall(address)):
        yield found
        yield unquote(found)
