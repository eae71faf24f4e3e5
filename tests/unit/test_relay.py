"""Whom a relay lets in, by how it is configured and where it listens."""

from __future__ import annotations

import asyncio

import pytest

from celery_livelog.errors import SettingsError
from celery_livelog.relay import Options, gate_of
from celery_livelog.settings import Settings
from celery_livelog.web.refusal import Refusal
from celery_livelog.web.request import Request

OPEN, TOKENS, RULE = "everyone on this machine sees everything", "whoever has a token", "livelog_permission says"


def settings(key: bool, rule: bool) -> Settings:
    return Settings(secret_key=("a-key",) if key else (), permission="site.may" if rule else None)


@pytest.mark.parametrize(
    ("key", "rule", "anonymous", "address", "told"),
    [
        (False, False, False, "127.0.0.1", OPEN),
        (False, False, False, "localhost", OPEN),
        (False, False, False, "::1", OPEN),
        (True, False, False, "0.0.0.0", TOKENS),
        (True, False, False, "127.0.0.1", TOKENS),
        (False, True, False, "", RULE),
        (False, True, True, "", RULE),
        (True, True, False, "", TOKENS),
        (True, True, True, "", RULE),
    ],
)
def test_whom_it_lets_in(key: bool, rule: bool, anonymous: bool, address: str, told: str) -> None:
    """It says so, and without a token lets in nobody where tokens are needed."""
    gate, said = gate_of(settings(key, rule), Options(address=address, anonymous=anonymous))
    assert told in said
    request = Request(path="/", headers={"host": "127.0.0.1"}, address="192.0.2.1")
    viewer = asyncio.run(gate.viewer(request))
    assert (viewer is None) == (told == TOKENS)
    assert viewer is None or (viewer.via, viewer.address) == ("relay", "192.0.2.1")


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "192.0.2.1", "logs.example"])
def test_it_is_not_open_to_all(address: str) -> None:
    """Without a key or a rule it listens on loopback or not at all; it says what to set."""
    with pytest.raises(SettingsError, match=r"set livelog_secret_key .* or livelog_permission .* --address=127"):
        gate_of(settings(key=False, rule=False), Options(address=address))


@pytest.mark.parametrize("key", [True, False])
def test_strangers_need_a_rule(key: bool) -> None:
    """Nobody else could say what they may see."""
    with pytest.raises(SettingsError, match="--anonymous needs livelog_permission"):
        gate_of(settings(key, rule=False), Options(anonymous=True))


def test_a_name_that_is_not_known() -> None:
    """A rule may go by addresses, which a page elsewhere has too when it is called by a name of its own."""
    gate, _ = gate_of(settings(key=False, rule=True), Options(origins=("https://logs.example",)))
    for host, known in (("logs.example", True), ("rebound.example", False)):
        request = Request(path="/", headers={"host": host}, address="10.0.0.1")
        if known:
            assert asyncio.run(gate.viewer(request)) is not None
            continue
        with pytest.raises(Refusal):
            asyncio.run(gate.viewer(request))
