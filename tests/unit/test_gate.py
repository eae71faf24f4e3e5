"""Who may ask: tokens, strangers, and what pages may say of themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from celery_livelog.access.tokens import Tokens
from celery_livelog.permissions import EVERYTHING, Scope, Viewer
from celery_livelog.web.gate import Gate, subprotocol_of
from celery_livelog.web.gate_addresses import Proxies
from celery_livelog.web.gate_origins import Origins
from celery_livelog.web.gate_strangers import nobody, users, visitors
from celery_livelog.web.refusal import Refusal
from celery_livelog.web.request import Request

TOKENS = Tokens(["a-key"])
GATE = Gate(tokens=TOKENS)
TOKEN = TOKENS.view(task_id="a-task", expires=time.time() + 600, name="me")


def asked(path: str = "/api/tasks", **options: Any) -> Request:
    headers = {"host": "localhost:5556", **options.pop("headers", {})}
    return Request(**{"path": path, "headers": headers, "address": "127.0.0.1", **options})


def viewer(gate: Gate, request: Request) -> Viewer | None:
    return asyncio.run(gate.viewer(request))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer  {TOKEN} "},
        {"sec-websocket-protocol": f"livelog, livelog.token.{TOKEN}"},
        {"sec-websocket-protocol": f"livelog.token.{TOKEN},livelog"},
    ],
)
def test_where_a_token_may_be(headers: dict[str, str]) -> None:
    """It says who asks; the address is that of the request."""
    found = viewer(GATE, asked(headers=headers, address="192.0.2.1"))
    assert found is not None
    assert (found.via, found.name, found.address) == ("token", "me", "192.0.2.1")
    assert found.seen == (Scope(task_id="a-task"),)


@pytest.mark.parametrize("query", [f"token={TOKEN}", f"access_token={TOKEN}", f"authorization=Bearer {TOKEN}"])
def test_a_token_in_a_url_is_none(query: str) -> None:
    """URLs stand in logs and histories."""
    assert viewer(GATE, asked(query=query)) is None


def forged() -> dict[str, str]:
    key, later = Tokens(["another-key"]), time.time() + 600
    return {
        "of another key": key.view(task_id="a-task", expires=later),
        "for writing": TOKENS.write(ids=["a-task"], expires=later),
        "over": TOKENS.view(task_id="a-task", expires=time.time() - 1),
        "cut": TOKEN[:-1],
        "lengthened": TOKEN + "A",
        "of two": TOKEN.partition(".")[0] + "." + TOKENS.view(task_id="b", expires=later).partition(".")[2],
        "of nothing": "",
        "of too much": TOKEN * 100,
        "of anything": "\x00\udcff",
    }


@pytest.mark.parametrize("kind", sorted(forged()))
@pytest.mark.parametrize("strangers", [nobody, visitors("test", Origins(), ruled=False)])
def test_a_token_that_is_not_valid(kind: str, strangers: Any) -> None:
    """Who brings one is nobody, also where those are let in who bring none."""
    request = asked(headers={"authorization": f"Bearer {forged()[kind]}"})
    with pytest.raises(Refusal) as refused:
        viewer(Gate(tokens=TOKENS, strangers=strangers), request)
    assert (refused.value.status, refused.value.close_code) == (401, 4401)
    assert refused.value.headers["WWW-Authenticate"] == "Bearer"


def test_the_subprotocol_that_is_answered() -> None:
    """It is the one that has no token in it; where it is not offered, none."""
    assert subprotocol_of(asked(headers={"sec-websocket-protocol": f"livelog.token.{TOKEN}, livelog"})) == "livelog"
    assert subprotocol_of(asked(headers={"sec-websocket-protocol": f"livelog.token.{TOKEN}"})) is None
    assert subprotocol_of(asked()) is None


@pytest.mark.parametrize(
    ("host", "ruled", "let_in"),
    [
        ("localhost:5556", False, True),
        ("[::1]:5556", False, True),
        ("app.example", False, True),
        ("10.0.0.1:5556", False, False),
        ("10.0.0.1:5556", True, True),
        ("[2001:db8::1]", True, True),
        ("rebound.example:5556", False, False),
        ("rebound.example:5556", True, False),
        ("", True, False),
        ("[", True, False),
    ],
)
def test_visitors_use_a_name_that_the_server_knows(host: str, ruled: bool, let_in: bool) -> None:
    """Else a page could point a name of its own at it, and would be of the same origin."""
    gate = Gate(tokens=Tokens([]), strangers=visitors("relay", Origins(["https://app.example"]), ruled=ruled))
    request = asked(headers={"host": host})
    if let_in:
        assert viewer(gate, request) == Viewer(via="relay", address="127.0.0.1", seen=EVERYTHING)
        return
    with pytest.raises(Refusal, match="not known as"):
        viewer(gate, request)


@pytest.mark.parametrize("ruled", [True, False])
def test_visitors_through_a_proxy(ruled: bool) -> None:
    """A server that is open to its own machine is not open to those for whom a proxy on it asks."""
    gate = Gate(tokens=Tokens([]), strangers=visitors("relay", Origins(), ruled=ruled))
    request = asked(headers={"x-forwarded-for": "192.0.2.1"})
    if ruled:
        assert viewer(gate, request) is not None
        return
    with pytest.raises(Refusal, match="nobody through a proxy"):
        viewer(gate, request)


def _none(scope: Any) -> None:
    return None


async def _somebody(scope: Any) -> Viewer:
    return Viewer(via="asgi", name=scope)


def test_users_of_the_site() -> None:
    """The site is asked who it is, also by a coroutine; what is no viewer is nobody's fault but its own."""
    somebody = viewer(Gate(tokens=TOKENS, strangers=users(_somebody)), asked(context="me"))
    assert somebody is not None
    assert somebody.name == "me"
    assert viewer(Gate(tokens=TOKENS, strangers=users(_none)), asked()) is None
    with pytest.raises(TypeError, match="expected a Viewer or None"):
        viewer(Gate(tokens=TOKENS, strangers=users(lambda scope: True)), asked())


def test_a_websocket_of_a_user_comes_from_a_page() -> None:
    """A browser sends cookies along whichever page opens it, and always says which that was."""
    gate = Gate(tokens=TOKENS, strangers=users(_somebody))
    with pytest.raises(Refusal) as refused:
        viewer(gate, asked(socket=True))
    assert refused.value.close_code == 4403
    assert viewer(gate, asked(socket=True, headers={"origin": "http://localhost:5556"})) is not None
    assert viewer(gate, asked(socket=True, headers={"authorization": f"Bearer {TOKEN}"})) is not None
    assert viewer(gate, asked()) is not None


@pytest.mark.parametrize("make", [lambda origin: {"origin": origin}, lambda origin: {"origin": origin, "host": ""}])
def test_pages_of_others_are_refused(make: Callable[[str], dict[str, str]]) -> None:
    """The sentence names both origins, and says what to do."""
    with pytest.raises(Refusal, match="Host and X-Forwarded-Proto") as refused:
        GATE.check_origin(asked(headers=make("https://evil.example")))
    assert refused.value.status == 403
    assert "https://evil.example" in str(refused.value)
    GATE.check_origin(asked())


def test_behind_a_proxy() -> None:
    """The origin is compared with what the proxy was called, and the address is the client's."""
    gate = Gate(tokens=TOKENS, proxies=Proxies(["127.0.0.1"]))
    headers = {"host": "logs.example", "x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.9"}
    request = gate.located(asked(headers={**headers, "origin": "https://logs.example"}))
    gate.check_origin(request)
    assert request.address == "192.0.2.9"
    with pytest.raises(Refusal):
        GATE.check_origin(GATE.located(asked(headers={**headers, "origin": "https://logs.example"})))
