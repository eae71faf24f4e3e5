"""A relay behind nginx, with the very configuration that its document shows."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.relays import OVER, bearer, environment, follow, hear, logs, say, socket
from tests.integration.web import get
from tests.nodes.nginx import Nginx
from tests.nodes.relay import Relay
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

DOCUMENT = Path(__file__).parents[2] / "docs" / "relay.md"


def test_nginx(valkey: Valkey, tmp_path: Path, launch: Callable[[Any], Any]) -> None:
    """Below a path of it there are pages, live lines by WebSocket and as an answer that is not held back; others' pages
    are refused, and the relay knows who has asked."""
    relay = launch(
        Relay(
            tmp_path, environment(valkey, tmp_path), ["--url-prefix=logs", "--proxy=127.0.0.1", "--metrics=127.0.0.9"]
        )
    )
    (locations,) = re.findall(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert "http://127.0.0.1:5556;" in locations
    nginx = launch(Nginx(tmp_path, locations.replace("http://127.0.0.1:5556", relay.url.removesuffix("/logs"))))
    wait_for(lambda: _answers(nginx.url), what="nginx")
    url = f"{nginx.url}/logs"
    with logs(valkey, tmp_path) as stores:
        assert 'src="/logs/static/livelog.js"' in get(f"{url}/task/{OVER}").text
        assert get(f"{url}/api/tasks/{OVER}/log", bearer()).text == "line 1\nline 2\nline 3\n"
        for origin, code in (
            (nginx.url, 1000),
            (relay.url.removesuffix("/logs"), 4403),
            ("https://evil.example", 4403),
        ):
            with socket(url, origin=origin, headers=bearer()) as client:
                assert follow(client, OVER)[1] == code, origin

        attempt = stores.begin(5, task_id := "a/task")
        stores.print(attempt, 1, 1)
        stores.settle()
        answer = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=30)
        answer.request("GET", "/logs/api/tasks/a%2Ftask/log?follow=1", headers=bearer(task_id))
        with socket(url, origin=nginx.url, headers=bearer(task_id)) as client:
            say(client, type="subscribe", task_id=task_id)
            assert [hear(client), hear(client)][1]
            response = answer.getresponse()
            assert response.readline() == b"line 1\n"
            stores.print(attempt, 2, 2)
            stores.settle()
            assert response.readline() == b"line 2\n"
            message = hear(client)
            assert isinstance(message, dict)
            assert message["records"][0]["line"] == "line 2"
        answer.close()

    measured = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=30, source_address=("127.0.0.9", 0))
    measured.request("GET", "/logs/metrics")
    assert measured.getresponse().status == 200
    measured.close()
    assert get(f"{url}/metrics").status == 404


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/up", timeout=5):
            return True
    except urllib.error.URLError:
        return False
