"""Logs that arrive line by line: from programs that know no more than the messages, and from those that count them."""

from __future__ import annotations

import asyncio
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

from celery_livelog.attempts import Attempt
from celery_livelog.environment import settings_of
from celery_livelog.ingest import Ingest, inbox, log, logs, session
from celery_livelog.reader import Reader
from celery_livelog.records import Gap, Line, Record, StageComplete
from celery_livelog.settings import Settings
from celery_livelog.stores import requests
from celery_livelog.tokens import Tokens
from tests.integration.ingesting import connected, run, until, writer
from tests.nodes.ingest import KEY, IngestRelay, token
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

AT = "2026-05-09T14:23:01+00:00"
LATER = "2026-05-09T14:25:00+00:00"


def line(number: int, task: int | str = 42, **more: Any) -> dict[str, Any]:
    """A message as the sender's own document has it."""
    said = {"line": f"line {number}", "timestamp": AT, "stream": "stdout"}
    return {"type": "log_line", "work_request_id": task, **said, **more}


def end(task: int | str = 42, exit_code: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "log_line_end", "work_request_id": task, "exit_code": exit_code, "timestamp": LATER, **more}


Found = tuple[list[Attempt], list[Record]]


def ask_all(settings: Settings, tasks: list[str]) -> dict[str, Found]:
    """What a reader finds of each task."""

    async def found(reader: Reader, task_id: str) -> Found:
        records = [record async for batch in reader.log(task_id) for record in batch.records]
        return await reader.attempts(task_id), records

    async def asked() -> dict[str, Found]:
        reader = Reader(settings)
        try:
            return {task_id: await found(reader, task_id) for task_id in tasks}
        finally:
            await reader.close()

    return asyncio.run(asked())


def ask(settings: Settings, task_id: str) -> Found:
    """What a reader finds of a task."""
    return ask_all(settings, [task_id])[task_id]


def archived(settings: Settings, task_id: str = "42", count: int = 1) -> list[Record]:
    """The records of a task whose attempts are over, as soon as all is archived."""

    def there() -> list[Record] | None:
        attempts, records = ask(settings, task_id)
        return records if sum(bool(attempt.archive) for attempt in attempts) == count else None

    return wait_for(there, what=f"the archive of {task_id}") or []


def shown(records: list[Record]) -> list[str]:
    return [record.text for record in records]


# -- a server, and clients over the network ----------------------------------------------------------------------------


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


# -- sessions in this process ------------------------------------------------------------------------------------------


@pytest.fixture
def settings(valkey: Valkey, tmp_path: Path) -> Settings:
    return Settings.from_conf({"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path)})


def messages_of(task: str) -> list[dict[str, Any]]:
    """A log with all that there can be in one."""
    said = {"work_request_id": task, "timestamp": AT}
    stage = {"stage": 1, "name": "Compile", **said}
    return [
        {**message, "seq": seq}
        for seq, message in enumerate(
            [
                line(1, task),
                {"type": "stage_start", **stage, "pending": 2},
                line(2, task, stage=1),
                {"type": "stage_progress", **stage, "done": 1, "total": 2},
                line(3, task, stream="internal", line="[15 messages skipped]"),
                {"type": "stage_complete", **stage, "elapsed": 1.5},
                {"type": "trace", **said, "event": "seen", "data": {"x": [1]}},
                {"type": "gap", **said, "skipped": 3},
                end(task, 1, reason="no compiler"),
            ],
            1,
        )
    ]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same server", "another server"])
def test_a_connection_that_is_cut_after_any_message(settings: Settings, elsewhere: bool) -> None:
    """Who then sends all that it knows, or only what was not acknowledged, finds each message there once."""
    tasks = []

    async def send(task: str, cut: int, again: int, one: Ingest, other: Ingest) -> None:
        messages = messages_of(task)
        async with connected(one, writer(prefix="cut-")) as first:
            await first.say(*messages[:cut])
            await until(lambda: first.acknowledged == cut)
        async with connected(other, writer(prefix="cut-")) as second:
            await second.say(*messages[again:])
            await until(lambda: second.acknowledged == 9)

    async def story(ingest: Ingest) -> None:
        other = Ingest(settings) if elsewhere else ingest
        sending = []
        for cut in range(10):
            for again in {0, min(cut, 8)}:
                tasks.append(f"cut-{cut}-{again}")
                sending.append(send(tasks[-1], cut, again, ingest, other))
        await asyncio.gather(*sending)
        if elsewhere:
            await other.close()

    run(settings, story)
    for task, (attempts, records) in ask_all(settings, tasks).items():
        assert [record.n for record in records] == list(range(1, 10)), task
        assert isinstance(records[5], StageComplete)
        (attempt,) = attempts
        known = attempt.lines, attempt.skipped, attempt.exit_code, attempt.reason, bool(attempt.archive)
        assert known == (2, 18, 1, "no compiler", True), task


def test_a_sender_that_goes_from_server_to_server(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes on where the last one was; one that it has left neither ends its log nor takes it for its own."""
    monkeypatch.setattr(logs, "_TICK_SECONDS", 0.05)

    async def story(ingest: Ingest) -> None:
        other = Ingest(settings)
        for seq in range(1, 9):
            async with connected(ingest if seq % 2 else other, writer(ids=["42"])) as client:
                await client.say(line(seq, seq=seq))
                await until(lambda client=client, seq=seq: client.acknowledged == seq)
        monkeypatch.setattr(logs, "_FORSAKEN_SECONDS", 0.0)
        await until(lambda: not len(ingest._logs.open_logs) and not len(other._logs.open_logs))
        async with connected(ingest, writer(ids=["42"])) as client:
            await client.say(end(seq=9))
            await until(lambda: client.acknowledged == 9)
        await other.close()

    run(settings, story)
    assert shown(archived(settings)) == [*(f"line {seq}" for seq in range(1, 9)), "[SUCCESS]"]


def test_holes_are_told(settings: Settings) -> None:
    """Messages that never came are counted in their place."""

    async def story(ingest: Ingest) -> None:
        async with connected(ingest, writer(ids=["42"])) as client:
            await client.say(line(1, seq=1), line(5, seq=5), end(seq=6))
            await until(lambda: client.acknowledged == 6)

    run(settings, story)
    assert shown(archived(settings)) == ["line 1", "[3 messages skipped]", "line 5", "[SUCCESS]"]


def test_a_task_that_runs_again(settings: Settings) -> None:
    """What comes after an end is another attempt; one that its sender names is only itself."""

    async def story(ingest: Ingest) -> None:
        async with connected(ingest, writer(ids=["42", "43"])) as client:
            await client.say(line(1), end(exit_code=1, state="RETRY"), line(2), end())
            await client.say(line(1, 43, seq=1, attempt="a"), line(1, 43, seq=1, attempt=2))
            await client.say(end(43, seq=2, attempt="a"), end(43, seq=2, attempt=2), line(9, 43, seq=1, attempt="a"))
            await until(lambda: [told.get("seq") for told in client.told].count(2) == 2)

    run(settings, story)
    assert shown(archived(settings, count=2)) == ["line 1", "[RETRY]", "line 2", "[SUCCESS]"]
    assert shown(archived(settings, "43", count=2)) == ["line 1", "[SUCCESS]"] * 2


def test_one_writer_cannot_touch_anothers_log(settings: Settings, valkey: Valkey) -> None:
    """Two that may both write a task have an attempt each; a task of one account is closed to another's writer."""

    async def story(ingest: Ingest) -> None:
        async with (
            connected(ingest, writer("one", ids=["42"])) as one,
            connected(ingest, writer("two", ids=["42"])) as two,
            connected(ingest, writer("three", account="acme")) as three,
            connected(ingest, writer("four", account="evil")) as four,
        ):
            await one.say(line(1, seq=1))
            await three.say(line(1, "theirs", seq=1))
            await until(lambda: one.acknowledged and three.acknowledged)
            await two.say(line(2, seq=1), end(exit_code=1, seq=2))
            await four.say(line(6, "theirs", seq=2), line(6, "42", seq=2))
            await until(lambda: two.acknowledged == 2 and len(four.told) == 2)
            assert {told["code"] for told in four.told} == {"forbidden"}
            await one.say(line(3, seq=2), end(seq=3))
            await three.say(end("theirs", seq=2))
            await until(lambda: one.acknowledged == 3 and three.acknowledged == 2)

    run(settings, story)
    archived(settings, count=2)
    attempts, _ = ask(settings, "42")
    assert {(attempt.worker, attempt.exit_code, attempt.lines) for attempt in attempts} == {
        ("one", 0, 2),
        ("two", 1, 1),
    }
    assert shown(archived(settings, "theirs")) == ["line 1", "[SUCCESS]"]
    assert [attempt.account for attempt in ask(settings, "theirs")[0]] == ["acme"]


def test_a_redis_that_is_away_holds_the_sender_back(
    settings: Settings, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is acknowledged or dropped meanwhile; then all of it arrives."""
    monkeypatch.setattr(log, "_MOST", 50)
    monkeypatch.setattr(inbox, "_MOST", 100)
    count = 1000

    async def story(ingest: Ingest) -> None:
        async with connected(ingest, writer(ids=["42"])) as client:
            await client.say(line(1, seq=1))
            await until(lambda: client.acknowledged == 1)
            valkey.client.config_set("maxmemory", 1)
            valkey.client.config_set("maxmemory-policy", "noeviction")
            try:
                more = [line(seq, seq=seq) for seq in range(2, count)]
                saying = asyncio.create_task(client.say(*more, end(seq=count)))
                await asyncio.sleep(0.3)
                assert not saying.done()
                assert client.acknowledged == 1
            finally:
                valkey.client.config_set("maxmemory", 0)
            await saying
            await until(lambda: client.acknowledged == count)

    run(settings, story)
    records = archived(settings)
    assert shown(records)[:-1] == [f"line {seq}" for seq in range(1, count)]
    assert not any(isinstance(record, Gap) for record in records)


def test_an_archive_that_is_emptied_in_the_middle(
    valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has lost is counted, and the rest is there."""
    monkeypatch.setattr(logs, "_TICK_SECONDS", 0.05)
    settings = Settings.from_conf(
        {"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path), "livelog_maxlen": 200}
    )

    async def story(ingest: Ingest) -> None:
        async with connected(ingest, writer(ids=["42"])) as client:
            await client.say(*(line(seq, seq=seq) for seq in range(1, 151)))
            await until(lambda: list(tmp_path.glob("archive/tasks/42/*/manifest.json")))
            for segment in list(tmp_path.glob("archive/tasks/42/*/*.zst")):  # noqa: ASYNC240 - nobody waits for it
                segment.unlink()
            await client.say(end(seq=151))
            await until(lambda: client.acknowledged == 151)
            await asyncio.to_thread(archived, settings)

    run(settings, story)
    rest = [f"line {seq}" for seq in range(101, 151)]
    assert shown(archived(settings)) == ["[100 messages skipped]", *rest, "[SUCCESS]"]


def test_an_attempt_whose_writer_does_not_come_back(
    settings: Settings, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is lost, and what there is of it archived; what its writer says later is another attempt."""
    monkeypatch.setattr(logs, "_FORSAKEN_SECONDS", 0.0)
    monkeypatch.setattr(logs, "_TICK_SECONDS", 0.05)

    async def story(ingest: Ingest) -> None:
        async with connected(ingest, writer(ids=["42"])) as client:
            await client.say(line(1, seq=1), line(2, seq=2))
            await until(lambda: client.acknowledged == 2)
        valkey.client.delete(*valkey.client.keys("task:logs::lease:*"))  # as it is after a minute
        await asyncio.to_thread(archived, settings)
        async with connected(ingest, writer(ids=["42"])) as client:
            await client.say(line(3, seq=3), end(seq=4))
            await until(lambda: client.acknowledged == 4)

    run(settings, story)
    records = archived(settings, count=2)
    lost = "[LOST: worker lost: its shipper has not been heard of for over a minute]"
    assert shown(records) == ["line 1", "line 2", lost, "[2 messages skipped]", "line 3", "[SUCCESS]"]


def test_a_token_that_ends_ends_the_connection(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one in a hello lets it go on; another writer's does not."""

    async def story(ingest: Ingest) -> None:
        async with connected(ingest, writer("ci", ids=["42"], seconds=2)) as client:
            await client.say({"type": "hello", "token": token("ci", ids=["42"], seconds=600)}, line(1))
            await until(lambda: client.told)
            await client.say({"type": "hello", "token": token("else", ids=["42"])})
            await until(lambda: client.closed == [4401])
        async with connected(ingest, writer("ci", ids=["42"], seconds=1)) as client:
            await until(lambda: client.closed == [4401])
            await client.say(line(2))
        monkeypatch.setattr(session, "_HELLO_SECONDS", 0.01)
        async with connected(ingest, None) as client:
            await until(lambda: client.closed == [4401])

    run(settings, story)
    assert shown(ask(settings, "42")[1])[:1] == ["line 1"]
    assert len([record for record in ask(settings, "42")[1] if isinstance(record, Line)]) == 1


# -- the document ------------------------------------------------------------------------------------------------------

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
    assert [message["type"] for message in told] == ["ack", "ready", "error"]
    assert sorted(told, key=str) == sorted(ours, key=str)
    first, second = ask(settings, "42")[0]
    assert (first.lines, first.skipped, second.lines, second.exit_code) == (2, 30, 1, 0)
    assert len(archived(settings, count=2)) == len(others) + 2
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
