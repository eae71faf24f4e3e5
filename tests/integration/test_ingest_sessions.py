"""Logs that arrive line by line: over connections that are cut, from server to server, of several writers at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from celery_livelog.ingest import Ingest, inbox, log, logs, session
from celery_livelog.records import Gap, Line, StageComplete
from celery_livelog.settings import Settings
from tests.integration.ingesting import AT, archived, ask, ask_all, connected, end, line, run, shown, until, writer
from tests.nodes.ingest import token
from tests.nodes.valkey import Valkey


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
