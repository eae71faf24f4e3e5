"""``livelog relay`` as a command: how it starts, whom it lets in, what it says, how it ends."""

from __future__ import annotations

import gc
import signal
import socket as sockets
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from celery_livelog.cli.__main__ import main
from tests.integration.relays import OVER, bearer, environment, follow, hear, logs, say, socket
from tests.integration.web import get
from tests.nodes.certificate import certificate_for
from tests.nodes.process import free_port
from tests.nodes.relay import Relay
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

LINES = ["line 1", "line 2", "line 3"]


@pytest.fixture(scope="module")
def settings(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a relay that has logs to show."""
    directory = tmp_path_factory.mktemp("logs")
    with logs(valkey_server, directory):
        yield environment(valkey_server, directory)


# -- how it does not start --------------------------------------------------------------------------------------------


def refused(args: list[str], env: Mapping[str, str | None]) -> str:
    """What a relay says that does not start."""
    result = CliRunner().invoke(main, ["relay", *args], env=env)
    assert result.exit_code in (1, 2)
    output = result.output
    del result
    gc.collect()  # Tornado leaves a socket that could not be bound to the garbage collector
    return output


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    ("args", "more", "sentence"),
    [
        (["--address=0.0.0.0"], {"SECRET_KEY": None}, "set livelog_secret_key"),
        (["--address="], {"SECRET_KEY": None}, "set livelog_secret_key"),
        (["--anonymous"], {}, "--anonymous needs livelog_permission"),
        (["--origin=app.example"], {}, "expected one such as https://app.example"),
        (["--proxy=proxy"], {}, "expected one such as 10.0.0.7"),
        (["--metrics=me"], {}, "expected one such as 10.0.0.7"),
        (["--redis-url=http://x"], {}, "--redis-url cannot be used"),
        (["--certfile=/none"], {}, "the certificate cannot be used"),
        (["--keyfile=/none"], {}, "without --certfile"),
        (["--port=70000"], {}, "--port"),
        (["--address=192.0.2.1"], {}, "cannot listen on 192.0.2.1"),
        ([], {"REDIS_URL": "redis://127.0.0.1:1"}, "Redis does not answer"),
        ([], {"RELAY_PROT": "1"}, "LIVELOG_RELAY_PROT"),
    ],
)
def test_what_cannot_be_is_one_line(
    settings: dict[str, str], args: list[str], more: dict[str, str | None], sentence: str
) -> None:
    """It says what was expected, and the exit code is that of a failure."""
    given = {f"LIVELOG_{name}": text for name, text in more.items()}
    output = refused(["--port=0", *args], {**settings, **given})
    assert sentence in output.splitlines()[-1]
    assert "Traceback" not in output


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_port_in_use(settings: dict[str, str]) -> None:
    """It is named."""
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        output = refused([f"--port={port}"], settings)
    assert output == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_an_app_without_livelog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There would be no logs."""
    code = "from celery import Celery\napp = Celery('without', set_as_current=False)\n"
    (tmp_path / "app_without.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(main, ["-A", "app_without", "relay"])
    assert result.exit_code == 1
    assert result.output == "Error: livelog is off in the app without: set app.conf.livelog = True\n"


# -- whom it lets in --------------------------------------------------------------------------------------------------


def test_an_open_relay(settings: dict[str, str], tmp_path: Path, launch: Callable[[Relay], Relay]) -> None:
    """It is for its own machine, below its prefix; who is not named sees no metrics; SIGTERM is told to all."""
    without_key = {name: text for name, text in settings.items() if name != "LIVELOG_SECRET_KEY"}
    args = ["--url-prefix=/some/logs/", "--proxy=127.0.0.7", "--metrics=127.0.0.7", "--max-per-address=3"]
    relay = launch(Relay(tmp_path, without_key, args))
    assert urlsplit(relay.url).path == "/some/logs"
    assert "everyone on this machine sees everything" in relay.output()

    assert get(f"{relay.url}/api/tasks/{OVER}/log").text.split() == " ".join(LINES).split()
    for host in ("localhost", "127.0.0.1:1", "[::1]"):
        assert get(f"{relay.url}/api/tasks", {"Host": host}).status == 200
    for host in ("rebound.example", "10.0.0.1", "127.0.0.1.rebound.example"):
        assert get(f"{relay.url}/api/tasks", {"Host": host}).status == 403
    assert get(f"{relay.url}/api/tasks", {"X-Forwarded-For": "127.0.0.1"}).status == 403
    outside = f"http://{urlsplit(relay.url).netloc}"
    for path in ("/api/tasks", "/", "/some", "/some/logsapi/tasks", "/healthz"):
        assert get(outside + path).status == 404

    assert get(f"{relay.url}/metrics").status == 404
    assert get(f"{relay.url}/metrics", {"X-Forwarded-For": "127.0.0.7"}).status == 404
    with socket(relay.url) as first, socket(relay.url) as second, socket(relay.url) as third:
        for client in (first, second, third):
            say(client, type="subscribe", task_id="none-yet")
            hear(client)
        with socket(relay.url) as fourth:
            refused = hear(fourth)
            assert isinstance(refused, dict)
            assert (refused["code"], hear(fourth)) == ("too_many", 4429)
        too_many = get(f"{relay.url}/api/tasks")
        assert (too_many.status, too_many.headers["Retry-After"]) == (429, "5")
        assert get(f"{relay.url}/healthz").status == 200  # or whoever watches over it would start it again
        told = _from("127.0.0.7", relay.url, "/metrics")
        assert 'livelog_sockets{kind="viewer"} 3.0' in told
        assert 'livelog_refusals_total{reason="too_many"} 2.0' in told
        assert 'livelog_refusals_total{reason="forbidden"} 4.0' in told
        first.close()
        wait_for(lambda: get(f"{relay.url}/api/tasks").status == 200, what="the place of who has left")
        relay.send(signal.SIGTERM)
        assert [hear(second), hear(third)] == [1001, 1001]
    assert relay.wait(10) == 0
    assert relay.output().count("\n") == 1


def _from(address: str, url: str, path: str) -> str:
    """What is answered to another address of this machine."""
    place = urlsplit(url)
    with sockets.create_connection((place.hostname or "", place.port or 0), source_address=(address, 0)) as opened:
        opened.sendall(f"GET {place.path}{path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: opened.recv(65536), b"")).decode()


def test_a_rule(settings: dict[str, str], tmp_path: Path, launch: Callable[[Relay], Relay]) -> None:
    """It is asked about strangers, with their addresses, and about those with a token besides."""
    (tmp_path / "house.py").write_text("def may(viewer, action, task):\n    return viewer.address == '127.0.0.2'\n")
    relay = launch(Relay(tmp_path, settings | {"LIVELOG_PERMISSION": "house.may"}, ["--anonymous"]))
    path = f"/api/tasks/{OVER}/log"
    assert "line 1" in _from("127.0.0.2", relay.url, path)
    assert get(relay.url + path).status == get(relay.url + path, bearer()).status == 404
    with socket(relay.url, headers=bearer()) as client:
        say(client, type="subscribe", task_id=OVER)
        hear(client)
        relay.send(signal.SIGINT)
        assert hear(client) == 1001
    assert relay.wait(10) == 0


def test_tls(settings: dict[str, str], tmp_path: Path, launch: Callable[[Relay], Relay]) -> None:
    """Pages and WebSockets are served with the certificate, to those who call it by its scheme."""
    certificate, key = certificate_for("IP:127.0.0.1", tmp_path)
    relay = launch(Relay(tmp_path, settings, [f"--certfile={certificate}", f"--keyfile={key}"]))
    assert relay.url.startswith("https://")
    trusting = ssl.create_default_context(cafile=str(certificate))
    url = relay.url.replace("https", "wss") + "/ws"
    for origin, code in ((relay.url, 1000), (relay.url.replace("https", "http"), 4403)):
        options: dict[str, Any] = {"origin": origin, "additional_headers": bearer()}
        with connect(url, ssl=trusting, proxy=None, **options) as client:
            assert follow(client, OVER)[1] == code


# -- what goes away while it serves -----------------------------------------------------------------------------------


def test_redis_and_the_relay_away(tmp_path: Path, launch: Callable[[Any], Any]) -> None:
    """Requests are told so, sockets wait or are told to come again; when it is back they go on.

    So they do when the relay itself was killed: the next one listens where it did.
    """
    valkey = launch(Valkey(tmp_path))
    with logs(valkey, tmp_path) as stores:
        relay = launch(Relay(tmp_path, environment(valkey, tmp_path) | {"LIVELOG_RELAY_PORT": str(free_port())}))
        attempt = stores.begin(5, "a-task")
        stores.print(attempt, 1, 1)
        stores.settle()
        with socket(relay.url, headers=bearer("a-task")) as client:
            say(client, type="subscribe", task_id="a-task")
            hear(client)
            assert isinstance(hear(client), dict)
            valkey.kill()
            wait_for(lambda: get(f"{relay.url}/healthz").status == 503, what="the relay to notice")
            answer = get(f"{relay.url}/api/tasks/a-task", bearer("a-task"))
            assert (answer.status, answer.json) == (503, {"error": "service unavailable"})
            valkey.start()
            wait_for(lambda: get(f"{relay.url}/healthz").status == 200, what="the relay to go on")
            stores.print(attempt, 2, 2)
            stores.end(attempt, 3)
            stores.settle()
            code = hear(client)
            while isinstance(code, dict):
                code = hear(client)
        assert code in (1000, 1011)  # it has waited, or is told to come again
        with socket(relay.url, headers=bearer("a-task")) as client:
            assert follow(client, "a-task", after=f"{attempt.attempt}:1") == (["line 2"], 1000)
        with socket(relay.url), socket(relay.url), socket(relay.url):
            relay.kill()
        relay.start()
        with socket(relay.url, headers=bearer("a-task")) as client:
            assert follow(client, "a-task", after=f"{attempt.attempt}:1") == (["line 2"], 1000)
    assert "Traceback" not in relay.output()
