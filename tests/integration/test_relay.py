"""The relay and the ASGI app: the same answers, and the same refusals, from real servers."""

from __future__ import annotations

import http.client
import json
import socket as sockets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from celery_livelog.attempts import Attempt
from tests.integration.relays import (
    HIDDEN,
    OVER,
    RUNS,
    TOKENS,
    bearer,
    environment,
    follow,
    hear,
    logs,
    say,
    socket,
    token,
)
from tests.integration.stored import Shipped
from tests.integration.web import get
from tests.nodes.relay import AsgiSite, Relay
from tests.nodes.valkey import Valkey

APP = "https://app.example"
LINES = ["line 1", "line 2", "line 3"]


class Served(NamedTuple):
    """Both servers, over the same logs."""

    relay: str
    asgi: str
    stores: Shipped


@pytest.fixture(scope="module")
def servers(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("relay")
    settings = environment(valkey_server, directory)
    relay = Relay(directory, settings, [f"--origin={APP}", "--metrics=127.0.0.2"])
    asgi = AsgiSite(directory, settings)
    with ExitStack() as ends:
        for server in (relay, asgi):
            ends.callback(server.end)
        starting = threading.Thread(target=asgi.start)
        starting.start()
        stores = ends.enter_context(logs(valkey_server, directory))
        relay.start()
        starting.join()
        yield Served(relay.url, asgi.url, stores)


@pytest.fixture(params=["relay", "asgi"])
def url(request: pytest.FixtureRequest, servers: Served) -> str:
    """Where one of them serves."""
    return str(getattr(servers, request.param))


# -- the HTTP API -----------------------------------------------------------------------------------------------------


def test_a_token_shows_its_task(url: str) -> None:
    """All routes of the API are there; the log is whole."""
    task = get(f"{url}/api/tasks/{OVER}", bearer())
    assert (task.status, task.json["state"]) == (200, "SUCCESS")
    log = get(f"{url}/api/tasks/{OVER}/log?format=ndjson", bearer())
    assert [record.get("line") for record in log.records] == [*LINES, None]
    assert get(f"{url}/api/tasks/{OVER}/download", bearer()).text == "line 1\nline 2\nline 3\n"
    assert get(f"{url}/api/tasks/{OVER}/log?wait=9&tail=2", bearer()).text.endswith("line 3\n")
    assert get(f"{url}/api/tasks/{OVER}/log?wait=9&lines=2", bearer()).text == "line 2\n"
    assert get(f"{url}/api/tasks", bearer()).status == 200
    assert get(f"{url}/api/runs", bearer()).json == {"runs": []}
    assert get(f"{url}/api/tasks/{OVER}/log?lines=x", bearer()).status == 400


@pytest.mark.parametrize("route", ["", "/log", "/log?follow=0", "/download"])
def test_what_may_not_be_seen_is_not_there(url: str, route: str) -> None:
    """Another's task and one that never was get the same answer, to the byte."""
    hidden, absent = (get(f"{url}/api/tasks/{task_id}{route}", bearer()) for task_id in (HIDDEN, "no-such-task"))
    assert hidden.status == absent.status == 404
    assert hidden.body == absent.body
    assert {name: hidden.headers[name] for name in hidden.headers if name != "Date"} == {
        name: absent.headers[name] for name in absent.headers if name != "Date"
    }


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic dXNlcjpwYXNz"}])
def test_without_a_token_there_is_nothing(url: str, headers: dict[str, str]) -> None:
    """The same is said of what is there and what is not; a token in the URL is not looked at."""
    for path in ("/api/tasks", f"/api/tasks/{OVER}", "/api/tasks/none/log", f"/api/runs?token={token()}", "/api/none"):
        answer = get(url + path, headers)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert set(answer.json) == {"error"}


def test_what_does_not_exist(url: str) -> None:
    """Unknown paths, methods and files are told in a sentence, and of no server's version."""
    for path in ("/none", "/api", "/static/none.js", "/static/../site.py", "/static/%2e%2e/site.py", "/task/", "//"):
        answer = get(url + path)
        assert (answer.status, answer.json) == (404, {"error": "not found"}), path
        assert "tornado" not in str(answer.headers).lower()
    assert get(f"{url}/api/none", bearer()).status == 404
    place = urlsplit(url)
    for method in ("POST", "PUT", "DELETE", "HEAD", "PATCH"):
        connection = http.client.HTTPConnection(place.netloc, timeout=30)
        connection.request(method, f"{place.path}/api/tasks", body=b"{}", headers=bearer())
        response = connection.getresponse()
        assert (response.status, response.headers["Allow"]) == (405, "GET, OPTIONS")
        connection.close()


def test_an_id_may_hold_anything(url: str, servers: Served) -> None:
    """A slash or a percent sign in an id is told from one of the path."""
    attempt = servers.stores.begin(8, task_id := "a/b%2Fc d")
    servers.stores.print(attempt, 1, 1)
    servers.stores.end(attempt, 2)
    servers.stores.settle()
    assert get(f"{url}/api/tasks/a%2Fb%252Fc%20d/log", bearer(task_id)).text == "line 1\n"
    assert get(f"{url}/api/tasks/a/b%252Fc%20d/log", bearer(task_id)).status == 404


def test_headers_that_keep_logs_in(url: str) -> None:
    """Answers are stored nowhere, run nothing, are framed by nobody, and other sites cannot read them."""
    for answer in (get(f"{url}/api/tasks", bearer()), get(f"{url}/api/tasks"), get(f"{url}/none")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Access-Control-Allow-Origin"] is None


def test_pages_of_named_origins(url: str) -> None:
    """They may send a token and read the answer, without cookies; pages of others get none at all."""
    answer = get(f"{url}/api/tasks/{OVER}", {**bearer(), "Origin": APP})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, APP)
    assert answer.headers["Access-Control-Allow-Credentials"] is None
    place = urlsplit(url)
    for origin, status in ((APP, 204), ("https://evil.example", 403)):
        connection = http.client.HTTPConnection(place.netloc, timeout=30)
        connection.request("OPTIONS", f"{place.path}/api/tasks", headers={"Origin": origin})
        response = connection.getresponse()
        assert response.status == status
        assert ("Authorization" in (response.headers["Access-Control-Allow-Headers"] or "")) == (status == 204)
        connection.close()
    for origin in ("https://evil.example", "null", "https://www.app.example"):
        refused = get(f"{url}/api/tasks/{OVER}", {**bearer(), "Origin": origin})
        assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (403, None)


def test_pages_and_what_they_load(url: str) -> None:
    """A page names its id as text, and is the same for every one; scripts and styles can be embedded elsewhere."""
    root = urlsplit(url).path
    page = get(f"{url}/task/%3Cimg%20src=x%3E")
    assert (page.status, page.headers.get_content_type()) == (200, "text/html")
    assert "&lt;img src=x&gt;" in page.text
    assert "<img" not in page.text
    assert f'src="{root}/static/livelog.js"' in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert get(f"{url}/task/{OVER}").text == get(f"{url}/task/{HIDDEN}").text.replace(HIDDEN, OVER).replace(
        HIDDEN[:8], OVER[:8]
    )
    assert [get(url + path).status for path in ("/", "/runs", "/run/any")] == [200, 200, 200]
    script = get(f"{url}/static/livelog.js", {"Origin": APP})
    assert script.headers.get_content_type() == "text/javascript"
    assert script.headers["Access-Control-Allow-Origin"] == APP
    assert script.headers["Cache-Control"] == "no-cache"
    assert get(f"{url}/static/livelog.js", {"If-None-Match": script.headers["ETag"]}).status == 304


def test_health_says_nothing_to_strangers(url: str) -> None:
    """But that Redis answers, which balancers want to know."""
    answer = get(f"{url}/healthz")
    assert (answer.status, answer.body) == (200, b'{"ok":true}')


# -- live -------------------------------------------------------------------------------------------------------------


def test_a_log_by_websocket(url: str) -> None:
    """The token comes in the header, as a subprotocol or in the first message, and the server never repeats it."""
    with socket(url, headers=bearer()) as client:
        assert follow(client, OVER) == (LINES, 1000)
    with socket(url, subprotocols=["livelog", f"livelog.token.{token()}"]) as client:
        assert client.subprotocol == "livelog"
        assert follow(client, OVER) == (LINES, 1000)
    with socket(url) as client:
        assert follow(client, OVER, token=token()) == (LINES, 1000)


def test_a_log_that_grows(url: str, servers: Served) -> None:
    """By WebSocket and as one HTTP answer, lines are there while the task runs; both end when it does."""
    task_id = f"{RUNS}-{urlsplit(url).path.strip('/').replace('/', '-')}"
    attempt = servers.stores.begin(9, task_id)
    servers.stores.print(attempt, 1, 2)
    servers.stores.settle()
    place = urlsplit(url)
    answer = http.client.HTTPConnection(place.netloc, timeout=30)
    answer.request("GET", f"{place.path}/api/tasks/{task_id}/log?follow=1", headers=bearer(task_id))
    with socket(url, headers=bearer(task_id)) as client:
        say(client, type="subscribe", task_id=task_id)
        hear(client)
        seen = hear(client)
        assert isinstance(seen, dict)
        assert [record["line"] for record in seen["records"]] == ["line 1", "line 2"]
        response = answer.getresponse()
        assert response.readline() == b"line 1\n"
        assert response.headers["X-Accel-Buffering"] == "no"
        servers.stores.print(attempt, 3, 3)
        servers.stores.settle()
        seen = hear(client)
        assert isinstance(seen, dict)
        assert [record["n"] for record in seen["records"]] == [3]
        servers.stores.end(attempt, 4)
        servers.stores.settle()
        while isinstance(seen, dict):
            seen = hear(client)
        assert seen == 1000
    assert response.read() == b"line 2\nline 3\n"
    answer.close()


def test_a_log_that_is_written_elsewhere(url: str) -> None:
    """It comes over the other WebSocket, with a token of its own kind, and is read over the first."""
    task_id = f"elsewhere-{url}"
    writing = TOKENS.write(prefix="elsewhere-", expires=time.time() + 600)
    at = "2026-05-09T14:23:01+00:00"
    for wrong in (token(task_id), writing + "x"):
        with socket(url, path="/ingest", headers={"Authorization": f"Bearer {wrong}"}) as client:
            assert isinstance(hear(client), dict)
            assert hear(client) == 4401
    with socket(url, headers={"Authorization": f"Bearer {writing}"}) as client:
        assert follow(client, task_id) == ([], 4401)
    reading = socket(url, headers=bearer(task_id))
    with (
        reading as client,
        socket(url, path="/ingest", headers={"Authorization": f"Bearer {writing}"}) as writer,
    ):
        say(writer, type="log_line", task_id=task_id, timestamp=at, stream="stdout", line="from afar")
        say(writer, type="log_line_end", task_id=task_id, timestamp=at, exit_code=0)
        assert follow(client, task_id) == (["from afar"], 1000)


def test_another_path_has_no_websocket(url: str) -> None:
    """It is refused before it is accepted."""
    with pytest.raises(InvalidStatus), socket(url, path="/none", headers=bearer()):
        pass
    with pytest.raises(InvalidStatus), socket(url, path="/api/tasks", headers=bearer()):
        pass
    assert get(f"{url}/ws", bearer()).status in (400, 404)


# -- those who may not ------------------------------------------------------------------------------------------------

ORIGINS = {
    "same": lambda place: f"http://{place.netloc}",
    "same, in capitals": lambda place: f"HTTP://{place.netloc.upper()}",
    "named": lambda place: APP,
    "none": lambda place: None,
    "another port": lambda place: f"http://{place.hostname}:{(place.port or 0) + 1}",
    "another scheme": lambda place: f"https://{place.netloc}",
    "sibling": lambda place: f"http://sibling.{place.netloc}",
    "resembling": lambda place: f"http://{place.netloc}.evil.example",
    "foreign": lambda place: "https://evil.example",
    "null": lambda place: "null",
}
FRIENDLY = ("same", "same, in capitals", "named")
CREDENTIALS = ("cookie", "token", "first message", "nothing")


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_who_may_open_a_websocket(url: str, credentials: str) -> None:
    """Pages of the server and of named origins with who may see the task; without an origin those with a token."""
    cookie = {"Cookie": f"user={OVER}"}
    headers = {"cookie": cookie, "token": bearer()}.get(credentials, {})
    first = {"token": token()} if credentials == "first message" else {}
    known = credentials in ("token", "first message") or (credentials == "cookie" and "/sites/" in url)
    for name, origin in ORIGINS.items():
        with socket(url, origin=origin(urlsplit(url)), headers=headers) as client:
            lines, code = follow(client, OVER, **first)
        may_ask = name in FRIENDLY or (name == "none" and not (known and credentials == "cookie"))
        assert (lines, code) == (([], 4403) if not may_ask else (LINES, 1000) if known else ([], 4401)), name


def test_hostile_clients_get_nothing(url: str, servers: Served) -> None:
    """While they forge, flood and stall, who may see a log gets all of it, in order."""
    task_id = f"hostile-{urlsplit(url).path.strip('/').replace('/', '-')}"
    attempt = servers.stores.begin(10, task_id)
    with socket(url, headers=bearer(task_id)) as good, ExitStack() as ends:
        say(good, type="subscribe", task_id=task_id)
        heard: list[object] = []
        printing = threading.Thread(target=_print, args=(servers.stores, attempt))
        printing.start()
        ends.callback(printing.join)
        for _ in range(5):
            ends.callback(_half_open(url).close)
        for forged in ("x", f"{token(task_id)}x", token(task_id, -1)):
            with socket(url) as bad:
                assert follow(bad, task_id, token=forged) == ([], 4401)
        for frame in (b"\x00" * 100, "[" * 60_000, "x" * 70_000, json.dumps({"type": "subscribe"}), "{}"):
            with socket(url) as bad:
                with suppress(ConnectionClosed):
                    bad.send(frame)
                code = hear(bad)
                while isinstance(code, dict):
                    heard += code.get("records", [])
                    code = hear(bad)
                assert code in (4400, 4401, 4413), frame[:20]
        with socket(url, headers=bearer(OVER)) as flood:
            assert _flood(flood) == 4429
        with socket(url, headers=bearer(OVER)) as prefix_alike:
            say(prefix_alike, type="subscribe", task_id=task_id[:-1])
            say(prefix_alike, type="subscribe", task_id=task_id)
            prefix_alike.send(json.dumps({"type": "ack", "n": 10**18}))
            assert hear(prefix_alike) == {"type": "hello", "protocol": 1, "window": 65536}
        printing.join()
        assert heard == []
        seen: list[str] = []
        while not isinstance(message := hear(good), int):
            seen += [record["line"] for record in message.get("records", ()) if record["type"] == "log_line"]
        assert (seen, message) == ([f"line {n}" for n in range(1, 1001)], 1000)


def _print(stores: Shipped, attempt: Attempt) -> None:
    for first in range(1, 1000, 100):
        stores.print(attempt, first, first + 99)
        stores.settle()
    stores.end(attempt, 1001)
    stores.settle()


def _half_open(url: str) -> sockets.socket:
    """A connection whose request never ends."""
    place = urlsplit(url)
    opened = sockets.create_connection((place.hostname or "", place.port or 0))
    opened.sendall(f"GET {place.path}/ws HTTP/1.1\r\nHost: {place.netloc}\r\n".encode())
    return opened


def _flood(client: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        for _ in range(100_000):
            client.send('{"type":"resume"}')
    return client.close_code
