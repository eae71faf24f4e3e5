"""Logs that arrive line by line at a relay: from programs that know the messages only, and from hostile ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from celery_livelog.access.tokens import Tokens
from celery_livelog.environment import settings_of
from celery_livelog.ingest import Ingest
from celery_livelog.records import Gap
from celery_livelog.settings import Settings
from celery_livelog.stores import requests
from tests.integration.ingesting import archived, ask, connected, end, line, run, shown, until, writer
from tests.nodes.ingest import KEY, IngestRelay, token
from tests.nodes.valkey import Valkey


class Site:
    """A server of `/ingest` with its stores."""

    def __init__(self, valkey: Valkey, directory: Path) -> None:
        self.valkey = valkey
        self.environment = {"LIVELOG_REDIS_URL": valkey.url, "LIVELOG_DIR": str(directory / "livelog")}
        self.environment |= {"LIVELOG_REDACT": "hunter[0-9]"}
        self.settings = settings_of(self.environment)
        self.server = IngestRelay(directory, self.environment)
        self.server.start()

    def connect(self, bearer: str) -> ClientConnection:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        connection: ClientConnection = connect(self.server.ingest, additional_headers=headers, proxy=None)
        return connection


@pytest.fixture(scope="module")
def site(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(valkey_server, tmp_path_factory.mktemp("site"))
    try:
        yield site
    finally:
        site.server.end()


def left(socket: ClientConnection) -> Iterator[str | bytes]:
    """What comes until the connection is closed, in whatever way."""
    with suppress(ConnectionClosed):
        while True:
            yield socket.recv(timeout=20)


def refused(site: Site, bearer: str, *messages: dict[str, Any] | str | bytes) -> tuple[int, str]:
    """The code with which a connection is closed after these messages, and the error that it was told before."""
    with site.connect(bearer) as socket:
        with suppress(ConnectionClosed):
            for message in messages:
                socket.send(json.dumps(message) if isinstance(message, dict) else message)
        told = [json.loads(said) for said in left(socket)]
        return socket.close_code or 0, told[-1]["code"] if told else ""


def test_a_client_that_knows_only_the_messages(site: Site) -> None:
    """Its lines are in the stream as it sent them, in the archive, and in the catalog with its exit code."""
    said = [
        line(0, stream="internal", line="Downloading input artifact foo.dsc", timestamp="2026-05-09T14:22:58+00:00"),
        line(1, line="Building package foo 1.2.3..."),
        line(2, stream="stderr", line="warning: deprecated function used", timestamp="2026-05-09T14:23:05+00:00"),
        line(3, stream="internal", line="[15 messages skipped]", timestamp="2026-05-09T14:23:10+00:00"),
        line(4, line="the password is hunter2"),
    ]
    with site.connect(token(ids=["42"])) as socket:
        for message in [*said, end(exit_code=3)]:
            socket.send(json.dumps(message))
    records = archived(site.settings)
    assert shown(records) == [*(message["line"] for message in said[:4]), "the password is ***", "[FAILURE]"]
    assert isinstance(records[3], Gap)
    assert [record.timestamp for record in records] == [message["timestamp"] for message in [*said, end()]]
    entries = [fields for _, fields in site.valkey.client.xrange("task:logs:42")]
    named = [{name: fields[name] for name in ("line", "timestamp", "stream")} for fields in entries[:4]]
    assert named == [{name: message[name] for name in ("line", "timestamp", "stream")} for message in said[:4]]
    assert 0 < site.valkey.client.ttl("task:logs:42") <= 86_400
    (attempt,), _ = ask(site.settings, "42")
    assert (attempt.state, attempt.exit_code, attempt.lines, attempt.skipped) == ("FAILURE", 3, 4, 15)
    assert (attempt.started, attempt.ended) == ("2026-05-09T14:22:58.000000+00:00", "2026-05-09T14:25:00.000000+00:00")


def test_a_server_that_is_killed_goes_on_where_it_was(site: Site) -> None:
    """What was acknowledged is there, what was not is sent again, and nothing is there twice."""
    count, acknowledged = 3000, 0
    with site.connect(token(prefix="build-")) as socket:
        for seq in range(1, 2001):
            socket.send(json.dumps(line(seq, "build-7", seq=seq)))
        while acknowledged < 1000:
            acknowledged = json.loads(socket.recv(timeout=20))["seq"]
        site.server.kill()
        acknowledged = max([acknowledged, *(json.loads(said)["seq"] for said in left(socket))])
    site.server.start()
    with site.connect(token(prefix="build-")) as socket:
        for seq in range(acknowledged + 1, count + 1):
            socket.send(json.dumps(line(seq, "build-7", seq=seq)))
        socket.send(json.dumps(end("build-7", seq=count + 1)))
        while acknowledged < count + 1:
            acknowledged = json.loads(socket.recv(timeout=20))["seq"]
    records = archived(site.settings, "build-7")
    assert shown(records) == [*(f"line {number}" for number in range(1, count + 1)), "[SUCCESS]"]
    (attempt,), _ = ask(site.settings, "build-7")
    assert (attempt.lines, attempt.skipped, attempt.exit_code) == (count, 0, 0)


def test_who_may_not_write_writes_nothing(site: Site) -> None:
    """Tokens that are forged, over, for viewing, or for other tasks; those are told so, and their other tasks go on."""
    view = Tokens([KEY]).view(task_id="secret", expires=time.time() + 600)
    for bearer in ("rubbish", token(ids=["secret"], key="another key"), token(ids=["secret"], seconds=-1), view):
        assert refused(site, bearer, line(1, "secret"))[0] == 4401, bearer
    assert refused(site, "", line(1, "secret")) == (4401, "unauthorized")
    assert refused(site, "", {"type": "hello", "token": view}) == (4401, "unauthorized")
    with site.connect(token(ids=["mine"])) as socket:
        for task in ("secret", "min", "mine2", "MINE"):
            socket.send(json.dumps(line(1, task, seq=1)))
            assert json.loads(socket.recv(timeout=20))["task_id"] == task
        socket.send(json.dumps(end("mine", seq=1)))
        assert json.loads(socket.recv(timeout=20)) == {"type": "ack", "task_id": "mine", "seq": 1}
    for task in ("secret", "min", "mine2", "MINE"):
        assert ask(site.settings, task) == ([], [])
        assert not site.valkey.client.exists(f"task:logs:{task}")


def test_what_is_no_message(site: Site) -> None:
    """The first one ends the connection, later ones are told; one that is too large ends it at once."""
    bearer = token(prefix="odd-")
    for message in ("{", "[]", b"\xff\0", '{"type":"log_line"}', '{"type":"run_start","task_id":"odd-1"}', "1" * 100):
        assert refused(site, bearer, message) == (4400, "bad_message"), message
    assert refused(site, bearer, line(1, "odd-1", line="x" * 600_000)) == (4413, "too_large")
    assert refused(site, bearer, line(1, "odd-1"), *["{"] * 30) == (4400, "bad_message")
    with site.connect("") as socket:
        socket.send(json.dumps({"type": "hello", "token": bearer}))
        assert json.loads(socket.recv(timeout=20)) == {"type": "ready", "protocol": 1}
        socket.send(json.dumps(line(2, "odd-1")))
        socket.send(json.dumps({**line(3, "odd-1"), "timestamp": "yesterday"}))
        assert json.loads(socket.recv(timeout=20))["code"] == "bad_message"
        socket.send(json.dumps(end("odd-1")))
    assert shown(archived(site.settings, "odd-1")) == ["line 1", "line 2", "[SUCCESS]"]


@pytest.fixture
def settings(valkey: Valkey, tmp_path: Path) -> Settings:
    return Settings.from_conf({"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path)})


PAGE = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text()


def examples(text: str) -> list[dict[str, Any]]:
    return [json.loads(example) for example in re.findall(r"^```json\n(.*)\n```", text, re.MULTILINE)]


def test_every_message_of_the_document_is_one(settings: Settings) -> None:
    """Those of a sender are taken, one after the other; those of the relay are what it says."""
    by_line, _, by_shipper = PAGE.partition("## A worker that cannot reach Redis")
    said = examples(by_line)
    ours = [message for message in said if message["type"] in ("ack", "ready", "error")]
    (numbered,) = (message for message in said if "seq" in message and message not in ours)
    others = [message for message in said if message not in (*ours, numbered) and message["type"] != "hello"]
    told: list[dict[str, Any]] = []

    async def story(ingest: Ingest) -> None:
        async with connected(ingest, writer(ids=["42"])) as client:
            await client.say(numbered)
            await until(lambda: client.acknowledged)
            await client.say({"type": "hello"}, line(1, 43), *others, end())
        told.extend(client.told)

    run(settings, story)
    assert {message["type"] for message in told} == {"ack", "ready", "error"}
    assert [message for message in ours if message not in told] == []
    assert len(archived(settings, count=2)) == len(others) + 2
    first, second = ask(settings, "42")[0]
    assert (first.lines, first.skipped, second.lines, second.exit_code) == (2, 30, 1, 0)
    types = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", by_shipper, re.MULTILINE)
    assert {name for names in types for name in names if name} == requests.TYPES
    request, answer, refusal = examples(by_shipper)
    assert isinstance(requests.decode(json.dumps(request)), requests.Records)
    assert msgspec.convert(answer, requests.Answer).value == {"records": 1}
    assert msgspec.convert(refusal, requests.Answer).forbidden


def test_the_sender_of_the_document(site: Site, tmp_path: Path) -> None:
    """It sends what a program prints, and how it ended."""
    (sender,) = (
        code for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "Popen" in code
    )
    (tmp_path / "send.py").write_text(sender)
    environment = {**os.environ, "LIVELOG_URL": site.server.ingest, "LIVELOG_TOKEN": token(ids=["doc-1"])}
    program = ["sh", "-c", "echo one; echo two >&2; exit 3"]
    subprocess.run([sys.executable, "send.py", "doc-1", *program], cwd=tmp_path, env=environment, check=True)
    assert shown(archived(site.settings, "doc-1")) == ["one", "two", "[FAILURE]"]
    assert ask(site.settings, "doc-1")[0][0].exit_code == 3
