"""The document of the viewers' protocol: its examples are what is said, and its client follows a task."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from celery_livelog import viewer as room
from celery_livelog.access.tokens import Tokens
from celery_livelog.attempts import Attempt
from celery_livelog.reader.merge import Batch
from celery_livelog.records import decode, encode
from celery_livelog.settings import Settings
from celery_livelog.viewer.messages import HEARTBEAT, HELLO, MessageError, error, messages, parse, run_over
from celery_livelog.web.answers import log_query
from celery_livelog.web.log_query import asked
from celery_livelog.web.refusal import Refusal
from tests.integration.stored import Shipped, shipped
from tests.nodes.relay import Relay
from tests.nodes.valkey import Valkey

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
KEY = "a key of at least thirty-two characters"


def examples(kind: str) -> list[dict[str, Any]]:
    """The messages that the document shows of the viewer or of the server."""
    return [json.loads(block) for block in re.findall(rf"```json {kind}\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("example", examples("viewer"), ids=str)
def test_what_viewers_say_is_understood(example: dict[str, Any]) -> None:
    """Each of the document's messages, and nothing in one is passed over."""
    command = parse(json.dumps(example))
    assert {name: getattr(command, name) for name in example} == example


def test_all_that_viewers_may_say_is_shown() -> None:
    """No kind of message is missing."""
    assert {example["type"] for example in examples("viewer")} == {"subscribe", "ack", "pause", "resume"}


def said(example: dict[str, Any]) -> bytes:
    """The same message as the server makes it."""
    if example["type"] == "records":
        records = [decode(json.dumps(record)) for record in example["records"]]
        (message,) = messages(Batch(example["attempt"], example["number"], records), example.get("task_id", ""))
        return message.data
    if example["type"] == "run_over":
        return run_over(example["run_id"], example["state"]).data
    if example["type"] == "error":
        with pytest.raises(MessageError) as mistake:
            parse("{")
        return error(mistake.value.code, str(mistake.value))
    return {"hello": HELLO, "heartbeat": HEARTBEAT}[example["type"]]


@pytest.mark.parametrize("example", examples("server"), ids=str)
def test_what_the_server_says_is_shown(example: dict[str, Any]) -> None:
    """To the last field."""
    assert json.loads(said(example)) == example


def test_the_codes_of_closing() -> None:
    """Those of the session and those of refusals are in the table, with their words."""
    rows = dict(re.findall(r"^\| (\d{4}) \|([^|]*)\|", PAGE, re.MULTILINE))
    codes = {room.OVER, room.UNAVAILABLE, room.BAD_MESSAGE, room.UNAUTHORIZED, room.TIMED_OUT, room.TOO_MANY}
    refusals = {Refusal(status, "").close_code: Refusal(status, "").code for status in (401, 403, 413, 429, 503)}
    assert {int(code) for code in rows} == {1001, *codes, *refusals}
    for code, word in refusals.items():
        assert f"`{word}`" in rows[str(code)]


@pytest.mark.parametrize("line", re.findall(r"^curl .*", PAGE, re.MULTILINE))
def test_the_commands_for_curl(line: str) -> None:
    """Each asks for what there is, in a way that is understood."""
    *_, url = shlex.split(line)
    parts = urlsplit(url.replace("$URL", "http://relay"))
    assert re.fullmatch(r"/api/(tasks/[^/]+/log|runs/[^/]+/logs)", parts.path)
    headers = {"accept": "text/event-stream"} if "event-stream" in line else {}
    query = log_query(asked(dict(parse_qsl(parts.query)), headers))
    assert query.follow or query.wait


@pytest.fixture
def stores(valkey: Valkey, tmp_path: Path) -> Iterator[Shipped]:
    """What a shipper writes to."""
    conf = {"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path / "livelog")}
    with shipped(Settings.from_conf(conf)) as opened:
        yield opened


@pytest.fixture
def relay(valkey: Valkey, tmp_path: Path) -> Iterator[Relay]:
    """A relay that asks for tokens."""
    settings = {"LIVELOG_REDIS_URL": valkey.url, "LIVELOG_DIR": str(tmp_path / "livelog"), "LIVELOG_SECRET_KEY": KEY}
    server = Relay(tmp_path, settings, ["--port=0"])
    server.start()
    try:
        yield server
    finally:
        server.end()


def test_the_client_of_the_document(stores: Shipped, relay: Relay, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing but what stands there, a program follows a task from before its start to its end."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    room: dict[str, Any] = {}
    exec(compile(code, "docs/protocol.md", "exec"), room)
    url = relay.url.replace("http://", "ws://") + "/ws"
    token = Tokens((KEY,)).view(task_id="a-task", expires=time.time() + 60)

    def print_all() -> None:
        attempt: Attempt = stores.begin(1)
        for first in range(1, 1000, 100):
            stores.print(attempt, first, first + 99)
        stores.end(attempt, 1001)

    async def test() -> None:
        following = asyncio.create_task(room["follow"](url, "a-task", token))
        await asyncio.to_thread(print_all)
        await following

    asyncio.run(asyncio.wait_for(test(), 30))
    assert capsys.readouterr().out.splitlines() == [f"line {n}" for n in range(1, 1001)]


def test_records_of_the_document_are_records() -> None:
    """Encoded they are what stands there."""
    for example in examples("server"):
        for record in example.get("records", []):
            assert json.loads(encode(decode(json.dumps(record)))) == record
