"""The connection of a shipper to a relay: answers, breaks, refusals, and nobody who waits for ever."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from celery_livelog.errors import RelayError, RelayRefusal
from celery_livelog.stores import link
from celery_livelog.stores.link import Link
from celery_livelog.stores.requests import LastN, Lease, PutRows, is_part, part
from tests.nodes.certificate import certificate_for
from tests.nodes.waiting import wait_for


class Relay:
    """The other end; a test says what it answers to a request, None for nothing."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda asked: {"value": asked["id"]}
        self.greets = True
        self.tokens: list[str] = []
        self.bodies: dict[int, bytes] = {}
        self.connections: list[ServerConnection] = []
        self._server = serve(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/ingest"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        for connection in self.connections:
            connection.close()

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.tokens.append(connection.request.headers.get("Authorization", ""))
        self.connections.append(connection)
        try:
            for message in connection:
                self._hear(connection, message)
        except ConnectionClosed:
            pass

    def _hear(self, connection: ServerConnection, message: str | bytes) -> None:
        if is_part(message):
            number, data = part(message)
            self.bodies[number] = self.bodies.get(number, b"") + data
            return
        asked = json.loads(message)
        if asked["type"] == "hello":
            ready = {"type": "ready"} if self.greets else {"type": "error", "message": "who are you?"}
            connection.send(json.dumps(ready))
        elif (answer := self.answer(asked)) is not None:
            connection.send(json.dumps({"type": "answer", "id": asked["id"], **answer}))


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    monkeypatch.setattr(link, "_FIRST_PAUSE", 0.001)
    relay = Relay()
    yield relay
    relay.close()


@pytest.fixture
def opened(relay: Relay, tmp_path: Path) -> Iterator[Link]:
    (tmp_path / "token").write_text("first")
    opened = Link(relay.url, (tmp_path / "token").read_text)
    yield opened
    opened.close()


def test_each_question_has_its_answer(relay: Relay, opened: Link) -> None:
    """Of several threads over one connection, and whatever the order in which they come."""
    waiting = [opened.start(Lease(name=str(number))) for number in range(20)]
    assert [pending.wait(5) for pending in reversed(waiting)] == list(range(20, 0, -1))
    body = bytes(range(256)) * 4000
    opened.ask(PutRows(), body, timeout=5)
    wait_for(lambda: relay.bodies.get(21) == body)
    assert len(relay.connections) == 1


def test_an_error_is_raised_to_who_has_asked(relay: Relay, opened: Link) -> None:
    """What is refused for good is another error than what may be tried again."""
    relay.answer = lambda asked: {"error": "no", "forbidden": asked["type"] == "last_n"}
    with pytest.raises(RelayRefusal, match="no"):
        opened.ask(LastN(task_id="t", attempt="a"), timeout=5)
    with pytest.raises(RelayError, match="no") as error:
        opened.ask(Lease(name="a"), timeout=5)
    assert not isinstance(error.value, RelayRefusal)


def test_no_answer_is_an_error(relay: Relay, opened: Link) -> None:
    """After the time that was given; the connection stays, and its other questions have theirs."""
    relay.answer = lambda asked: None
    with pytest.raises(RelayError, match="does not answer"):
        opened.ask(Lease(name="a"), timeout=0.05)
    relay.answer = lambda asked: {"value": "late"}
    assert opened.ask(Lease(name="b"), timeout=5) == "late"
    assert len(relay.connections) == 1


def test_a_break_is_told_and_mended(relay: Relay, opened: Link, tmp_path: Path) -> None:
    """Who waits is told at once; the next question makes a new connection, with the token that is there then."""
    relay.answer = lambda asked: None
    pending = opened.start(Lease(name="a"))
    (tmp_path / "token").write_text("second")
    wait_for(lambda: relay.connections)[0].close()
    with pytest.raises(RelayError):
        pending.wait(5)
    relay.answer = lambda asked: {"value": 1}

    def mended() -> bool:
        try:
            return bool(opened.ask(Lease(name="b"), timeout=5))
        except RelayError:
            return False

    wait_for(mended)
    assert relay.tokens == ["Bearer first", "Bearer second"]


def test_one_that_is_not_let_in(relay: Relay, opened: Link) -> None:
    """The reason is told; who asks again at once is not let to try."""
    relay.greets = False
    with pytest.raises(RelayError, match=r"does not let this worker in: who are you\?"):
        opened.ask(Lease(name="a"), timeout=5)
    opened._retry_at = float("inf")
    with pytest.raises(RelayError, match="tried again soon"):
        opened.ask(Lease(name="a"), timeout=5)
    assert len(relay.connections) == 1


def test_nobody_there(tmp_path: Path) -> None:
    """Neither a relay nor a token: errors, of one line."""
    for token in (str, (tmp_path / "none").read_text):
        with pytest.raises(RelayError, match=r"^the relay 127\.0\.0\.1 is not reached: "):
            Link("ws://127.0.0.1:9/ingest", token).ask(Lease(name="a"), timeout=1)


def test_a_certificate_has_to_be_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that no authority has signed is refused, before the token is sent; one of SSL_CERT_FILE is good."""
    certificate, key = certificate_for("DNS:localhost", tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    relay = Relay(tls)
    url = f"wss://localhost:{relay.port}/ingest"
    with pytest.raises(RelayError, match="certificate verify failed"):
        Link(url, str).ask(Lease(name="a"), timeout=5)
    assert relay.tokens == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    opened = Link(url, str)
    assert opened.ask(Lease(name="a"), timeout=5) == 1
    opened.close()
    relay.close()


def test_the_way_leads_through_a_proxy(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the environment; not to this machine."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        asked: list[bytes] = []

        def refuse() -> None:
            connection, _ = proxy.accept()
            with connection:
                asked.append(connection.recv(1000))

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(RelayError):
            Link("wss://logs.example.org/ingest", str).ask(Lease(name="a"), timeout=5)
        assert asked[0].startswith(b"CONNECT logs.example.org:443 ")
        opened = Link(relay.url, str)
        assert opened.ask(Lease(name="a"), timeout=5) == 1
        opened.close()
