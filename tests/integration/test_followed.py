"""Logs that are followed by HTTP: as JSON lines and as server-sent events, of tasks and of runs, over any break."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from celery_livelog.reader import Reader, hub, run_tasks
from celery_livelog.settings import Settings
from celery_livelog.web import pulse, routes
from celery_livelog.web.answers import Streamed
from celery_livelog.web.log_query import asked
from celery_livelog.web.refusal import Refusal
from tests.integration.reading import run
from tests.integration.stored import Shipped, shipped
from tests.nodes.valkey import Valkey

LINES = 40


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows looks often."""
    monkeypatch.setattr(hub, "_QUIET_SECONDS", 0.05)
    monkeypatch.setattr(run_tasks, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(run_tasks, "_SETTLED_SECONDS", 0.1)


@pytest.fixture
def settings(valkey: Valkey, tmp_path: Path) -> Settings:
    return Settings.from_conf({"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path)})


@pytest.fixture
def stores(settings: Settings) -> Iterator[Shipped]:
    """What a shipper writes to."""
    with shipped(settings) as opened:
        yield opened


def task(stores: Shipped, number: int = 1, *, end: bool = True) -> list[str]:
    """A task of a run, with or without its end; give its cursors."""
    attempt = stores.begin(number, f"task-{number}", run_id="a-run")
    stores.print(attempt, 1, LINES)
    if end:
        stores.end(attempt, LINES + 1)
    return [f"{attempt.attempt}:{n}" for n in range(1, LINES + 1 + end)]


async def answer(reader: Reader, path: str, headers: Mapping[str, str] | None = None, **arguments: str) -> Streamed:
    given = await routes.answer(reader, path, asked(arguments, headers or {}))
    assert isinstance(given, Streamed)
    return given


async def text(pieces: AsyncIterator[bytes], until: str = "") -> str:
    """All that comes, or what comes until there is this in it."""
    whole = ""
    async for piece in pieces:
        whole += piece.decode()
        if until and until in whole:
            await pieces.aclose()  # type: ignore[attr-defined]
            break
    return whole


def events(said: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Id, name and data of server-sent events, as browsers read them."""
    found = []
    for block in said.split("\n\n"):
        fields = dict(re.findall(r"^(\w+): (.*)$", block, re.MULTILINE))
        if "data" in fields:
            found.append((fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"])))
    return found


def test_server_sent_events(settings: Settings, stores: Shipped) -> None:
    """A record each, its id the place behind it, and an end; a browser asks for them by a header alone."""
    cursors = task(stores)

    async def test(reader: Reader) -> None:
        given = await answer(reader, "/tasks/task-1/log", {"accept": "text/event-stream"})
        assert given.content_type == "text/event-stream"
        said = await text(given.pieces)
        assert said.startswith("retry: ")
        *records, end = events(said)
        assert [place for place, _, _ in records] == cursors
        assert [record["cursor"] for _, _, record in records] == cursors
        assert end[1:] == ("end", {})

    run(settings, test)


@pytest.mark.parametrize("cut", [0, 1, LINES, LINES + 1])
def test_events_go_on_from_the_last_id(settings: Settings, stores: Shipped, cut: int) -> None:
    """Whatever the URL says, with which a browser comes again."""
    cursors = task(stores)

    async def test(reader: Reader) -> None:
        headers = {"last-event-id": cursors[cut - 1]} if cut else {}
        given = await answer(reader, "/tasks/task-1/log", headers, format="sse", after=f"{1:016x}:0")
        assert [place for place, name, _ in events(await text(given.pieces)) if name == "message"] == cursors[cut:]

    run(settings, test)


def test_an_id_has_the_places_in_all_attempts(settings: Settings, stores: Shipped) -> None:
    """Of two at once each goes on where it was."""
    first, second = stores.begin(1), stores.begin(2)
    stores.print(first, 1, 3)
    stores.print(second, 1, 3)
    stores.settle()

    async def test(reader: Reader) -> None:
        given = await answer(reader, "/tasks/a-task/log", format="sse")
        seen = events(await text(given.pieces, until=f"id: {second.attempt}:2"))
        last = next(place for place, _, record in seen if record["cursor"] == f"{second.attempt}:2")
        assert last == f"{second.attempt}:2,{first.attempt}:3"
        stores.print(first, 4, 4)
        stores.end(second, 4)
        stores.end(first, 5)
        given = await answer(reader, "/tasks/a-task/log", {"last-event-id": last}, format="sse")
        rest = events(await text(given.pieces))
        cursors = {record["cursor"] for _, name, record in rest if name == "message"}
        assert cursors == {f"{second.attempt}:{n}" for n in (3, 4)} | {f"{first.attempt}:{n}" for n in (4, 5)}

    run(settings, test)


@pytest.mark.parametrize(("form", "beat"), [("ndjson", b" "), ("sse", b": still here\n\n")])
def test_quiet_logs(
    settings: Settings, stores: Shipped, monkeypatch: pytest.MonkeyPatch, form: str, beat: bytes
) -> None:
    """Something is said now and then, which parsers pass over."""
    monkeypatch.setattr(pulse, "_QUIET_SECONDS", 0.05)
    attempt = stores.begin(1)
    stores.print(attempt, 1, 3)

    async def test(reader: Reader) -> None:
        given, said, beats = await answer(reader, "/tasks/a-task/log", format=form, follow="1"), b"", 0
        async for piece in given.pieces:
            said += piece
            beats += piece == beat
            if beats == 2:
                stores.end(attempt, 4)
        data = [json.loads(line) for line in said.splitlines()] if form == "ndjson" else None
        records = data or [record for _, name, record in events(said.decode()) if name == "message"]
        assert [record["n"] for record in records] == [1, 2, 3, 4]
        assert beats > 1

    run(settings, test)


def test_a_run_as_json_lines(settings: Settings, stores: Shipped) -> None:
    """Each line names its task, the last one says how the run ended; gone on from the places in all attempts."""
    cursors = task(stores, 1) + task(stores, 2)

    async def test(reader: Reader) -> None:
        async def lines(**arguments: str) -> list[dict[str, Any]]:
            given = await answer(reader, "/runs/a-run/logs", follow="1", format="ndjson", **arguments)
            assert given.content_type == "application/x-ndjson"
            return [json.loads(line) for line in (await text(given.pieces)).splitlines()]

        *records, over = await lines()
        assert sorted(record["cursor"] for record in records) == sorted(cursors)
        assert {record["task_id"] for record in records} == {"task-1", "task-2"}
        assert over == {"type": "run_over", "run_id": "a-run", "state": "SUCCESS"}
        *rest, _ = await lines(after=f"{cursors[9]},{cursors[-5]}")
        assert sorted(record["cursor"] for record in rest) == sorted(cursors[10 : LINES + 1] + cursors[-4:])

    run(settings, test)


def test_a_run_as_events(settings: Settings, stores: Shipped) -> None:
    """Cut anywhere, gone on by the last id."""
    cursors = task(stores, 1) + task(stores, 2)

    async def test(reader: Reader) -> None:
        async def said(headers: Mapping[str, str]) -> list[tuple[str, str, dict[str, Any]]]:
            given = await answer(reader, "/runs/a-run/logs", {"accept": "text/event-stream", **headers})
            return events(await text(given.pieces))

        *records, end = await said({})
        assert end[1:] == ("end", {"type": "run_over", "run_id": "a-run", "state": "SUCCESS"})
        for cut in (1, LINES, 2 * LINES):
            *rest, _ = await said({"last-event-id": records[cut - 1][0]})
            found = [record["cursor"] for _, _, record in records[:cut] + rest]
            assert sorted(found) == sorted(cursors)

    run(settings, test)


def test_a_run_is_not_followed_as_text(settings: Settings) -> None:
    """Where nothing says which line is whose."""

    async def test(reader: Reader) -> None:
        with pytest.raises(Refusal, match="expected ndjson or sse"):
            await answer(reader, "/runs/a-run/logs", follow="1")

    run(settings, test)
