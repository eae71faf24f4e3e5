"""What a shipper elsewhere may ask of the stores, and what it cannot do there whatever it says."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from celery_livelog.access.tokens import Writer
from celery_livelog.attempts import Attempt
from celery_livelog.ingest import Ingest
from celery_livelog.reader import Reader
from celery_livelog.records import End, Line, Partial, Record, encode
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.settings import Settings
from celery_livelog.stores import seekable
from celery_livelog.stores.archive import pack_segment
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.manifest import Manifest, Segment
from celery_livelog.stores.requests import (
    Answer,
    Archived,
    HasSegments,
    LastN,
    Lease,
    PutManifest,
    PutRows,
    PutSegment,
    Records,
    Rows,
    Segments,
)
from tests.integration.ingesting import Connection, connected, run, until, writer
from tests.nodes.valkey import Valkey

AT = "2026-01-02T03:04:05.000006+00:00"
ID = "3f2a90bc77d01e44"


@pytest.fixture
def settings(valkey: Valkey, tmp_path: Path) -> Settings:
    return Settings.from_conf({"livelog_redis_url": valkey.url, "livelog_dir": str(tmp_path)})


def printed(count: int) -> list[Record]:
    lines: list[Record] = [Line(n=n, timestamp=AT, stream="stdout", line=f"line {n}") for n in range(1, count)]
    return [*lines, End(n=count, timestamp=AT, state="SUCCESS", exit_code=0)]


def packed(records: list[Record]) -> tuple[Segment, bytes]:
    return pack_segment([encode(record) for record in records], 1, records[-1].n)


def attempt(task_id: str = "42", **more: Any) -> Attempt:
    return Attempt(attempt=ID, task_id=task_id, started=AT, lease="a-lease", **more)


def ended(task_id: str = "42", **more: Any) -> Attempt:
    return attempt(task_id, ended=AT, state="SUCCESS", exit_code=0, lines=9, archive="there", **more)


async def archive(client: Connection, given: Attempt, records: list[Record]) -> list[Answer]:
    segment, data = packed(records)
    put = PutSegment(task_id=given.task_id, attempt=given.attempt, segment=segment)
    manifest = Manifest(attempt=given, segments=[segment], complete=True).to_json()
    return [await client.ask(put, data), await client.ask(PutManifest(), manifest)]


def ask(settings: Settings, task_id: str) -> tuple[list[Attempt], list[str]]:
    async def asked() -> tuple[list[Attempt], list[str]]:
        reader = Reader(settings)
        try:
            found = [record.text async for batch in reader.log(task_id) for record in batch.records]
            return await reader.attempts(task_id), found
        finally:
            await reader.close()

    return asyncio.run(asked())


def story_of(who: Writer, tell: Callable[[Connection], Awaitable[None]]) -> Callable[[Ingest], Awaitable[None]]:
    async def story(ingest: Ingest) -> None:
        async with connected(ingest, who) as client:
            await tell(client)

    return story


def test_all_that_a_shipper_asks(settings: Settings, valkey: Valkey) -> None:
    """A log goes live, to archive and catalog, and is found again by one who comes after a kill."""
    lines = b"\n".join(encode(record) for record in printed(10))
    segment, _ = packed(printed(10))

    async def tell(client: Connection) -> None:
        assert (await client.ask(Lease(name="a-lease"))).error == ""
        records = Records(task_id="42", attempt=ID, fresh=True, known=attempt())
        assert (await client.ask(records, lines)).value == {"records": 10}
        assert (await client.ask(LastN(task_id="42", attempt=ID))).value == 10
        assert (await client.ask(Segments(task_id="42", attempt=ID))).value == []
        assert [answer.error for answer in await archive(client, ended(), printed(10))] == ["", ""]
        (known,) = (await client.ask(Segments(task_id="42", attempt=ID))).value
        assert msgspec.convert(known, Segment) == segment
        there = await client.ask(HasSegments(task_id="42", attempt=ID), msgspec.json.encode([known]))
        assert there.value is True
        rows = Rows(
            attempts=[ended()],
            runs=[RunEntry(run_id="r", named=True, started=AT)],
            stages=[Stage(attempt=ID, stage=1, task_id="42", name="Compile", started=AT)],
        )
        assert (await client.ask(PutRows(), msgspec.json.encode(rows))).value == ""
        tidied = Manifest(attempt=ended(), segments=[segment], complete=True)
        assert (await client.ask(PutManifest(tidy=True), tidied.to_json())).error == ""
        assert (await client.ask(Archived(task_id="42"))).error == ""

    run(settings, story_of(writer("far", account="acme"), tell))
    (found,), records = ask(settings, "42")
    assert records == [*(f"line {n}" for n in range(1, 10)), "[SUCCESS]"]
    assert (found.attempt[:16], len(found.attempt), found.account, found.lines) == (ID, 32, "acme", 9)
    assert found.archive == f"{settings.archive_url}/tasks/42/{found.attempt}"
    assert valkey.client.ttl(f"task:logs::lease:{found.lease}") > 0
    assert valkey.client.zrange("task:logs::finished", 0, -1) == ["42"]
    catalog = Catalog(settings.database_url)
    assert [(entry.run_id, entry.account) for entry in catalog.entries("r")] == [("r", "acme")]
    assert [stage.name for stage in catalog.stages_of_run("")] == ["Compile"]
    catalog.close()


def test_another_writer_touches_nothing_of_it(settings: Settings, valkey: Valkey) -> None:
    """Neither with its ids, nor those that are stored, nor by a prefix alike, nor as another account."""
    acme, evil = writer("far", account="acme"), writer("evil", account="evil")

    async def begin(client: Connection) -> None:
        assert [answer.error for answer in await archive(client, ended("theirs"), printed(10))] == ["", ""]
        rows = Rows(attempts=[ended("theirs")], runs=[RunEntry(run_id="r", named=True, started=AT, name="nightly")])
        assert (await client.ask(PutRows(), msgspec.json.encode(rows))).value == ""

    run(settings, story_of(acme, begin))
    before = ask(settings, "theirs")
    stored = before[0][0].attempt

    async def attack(client: Connection) -> None:
        segment, data = packed(printed(3))
        for id_ in (ID, stored, stored[16:], "../../x", "", ID.upper()):
            asked = [
                client.ask(PutSegment(task_id="theirs", attempt=id_, segment=segment), data),
                client.ask(Records(task_id="theirs", attempt=id_, fresh=True), encode(printed(1)[0])),
                client.ask(Segments(task_id="theirs", attempt=id_)),
                client.ask(PutManifest(), Manifest(attempt=replace(ended("theirs"), attempt=id_)).to_json()),
                client.ask(PutManifest(tidy=True), Manifest(attempt=replace(ended("theirs"), attempt=id_)).to_json()),
            ]
            for answer in [await one for one in asked]:
                assert answer.forbidden, answer
        assert (await client.ask(Archived(task_id="theirs"))).forbidden
        for account in ("acme", ""):
            rows = Rows(
                attempts=[ended("theirs", account=account)],
                stages=[Stage(attempt=ID, stage=1, task_id="theirs", account=account)],
            )
            answer = await client.ask(PutRows(), msgspec.json.encode(rows))
            assert str(answer.value).startswith("2 rows: the token does not cover")
        own = Rows(runs=[RunEntry(run_id="r", named=True, started=AT, name="mine", ended=AT, state="FAILURE")])
        assert (await client.ask(PutRows(), msgspec.json.encode(own))).value == ""

    run(settings, story_of(evil, attack))
    assert ask(settings, "theirs") == before
    catalog = Catalog(settings.database_url)
    assert {(entry.account, entry.name, entry.state) for entry in catalog.entries("r")} == {
        ("acme", "nightly", ""),
        ("evil", "mine", "FAILURE"),
    }
    catalog.close()

    async def prefixed(client: Connection) -> None:
        for task in ("c-1", "ci", "CI-1", "ci_1"):
            (answer, _) = await archive(client, ended(task), printed(3))
            assert answer.forbidden
        assert [answer.error for answer in await archive(client, ended("ci-1"), printed(3))] == ["", ""]
        rows = Rows(runs=[RunEntry(run_id="r", named=True, started=AT), RunEntry(run_id="ci-r", started=AT)])
        assert str((await client.ask(PutRows(), msgspec.json.encode(rows))).value).startswith("1 rows:")

    run(settings, story_of(writer(prefix="ci-"), prefixed))


def test_segments_are_what_they_are_said_to_be(settings: Settings, tmp_path: Path) -> None:
    """Other bytes, other numbers, other names, other kinds, bombs: none is put, and the connection stays."""
    segment, data = packed(printed(10))
    partial, of_partial = packed([Partial(n=1, timestamp=AT, stream="stdout", line="x")])
    unknown, of_unknown = pack_segment([b'{"n":1,"timestamp":"","type":"?"}'], 1, 1)
    many = b"\n".join([b"[]"] * seekable.FRAME_BYTES)
    frames, _ = seekable.pack([many])
    lines = Segment(
        name="1.jsonl.zst", first=1, last=1, records=1, raw_bytes=len(many) + 1, size=len(frames),
        crc32=zlib.crc32(frames), frames=[1],
    )  # fmt: skip
    wrong = [
        (segment, data[:-1]),
        (segment, data + b"x"),
        (segment, data[:20] + bytes([data[20] ^ 1]) + data[21:]),
        (segment, b"nonsense"),
        (replace(segment, name="../../../1.jsonl.zst"), data),
        (replace(segment, name="2.jsonl.zst", first=2, last=11, frames=[2]), data),
        (replace(segment, last=11), data),
        (replace(segment, records=9), data),
        (replace(segment, raw_bytes=1), data),
        (replace(segment, raw_bytes=1 << 40), data),
        (replace(segment, frames=[]), data),
        (replace(segment, frames=[1, 1 << 60]), data),
        (replace(segment, name="0.jsonl.zst", first=0), data),
        (partial, of_partial),
        (unknown, of_unknown),
        (lines, frames),
    ]

    async def tell(client: Connection) -> None:
        for given, body in wrong:
            answer = await client.ask(PutSegment(task_id="42", attempt=ID, segment=given), body)
            assert "BadMessage" in answer.error, given
        answer = await client.ask(PutManifest(), Manifest(attempt=ended(), segments=[segment], complete=True).to_json())
        assert "last segment is not there" in answer.error
        assert (await client.ask(PutManifest(), b"{}")).error
        assert (await client.ask(Records(task_id="42", attempt=ID), b"{}")).error
        other = Records(task_id="42", attempt=ID, known=attempt("43"))
        assert (await client.ask(other, encode(printed(1)[0]))).error
        assert [answer.error for answer in await archive(client, ended(), printed(10))] == ["", ""]
        assert client.closed == []

    run(settings, story_of(writer(ids=["42", "43"]), tell))
    assert [path.name for path in tmp_path.rglob("*.zst")] == ["1.jsonl.zst"]


@pytest.mark.parametrize(
    "messages",
    [
        [b"\0\1\0\0\0abc"],
        ['{"type":"rows","id":1,"size":2}', b"\0\1\0\0\0abc"],
        ['{"type":"rows","id":1,"size":-1}'],
        ['{"type":"rows","id":1,"size":99999999}'],
        ['{"type":"records","id":1,"size":9999999,"task_id":"42","attempt":"x"}'],
        ['{"type":"rows","id":1,"size":2}', '{"type":"rows","id":1,"size":2}'],
        ['{"type":"rows","id":1,"size":40000000}', '{"type":"rows","id":2,"size":40000000}'],
        ['{"type":"segment","id":1}'],
    ],
)
def test_requests_that_are_none(settings: Settings, messages: list[str | bytes]) -> None:
    """Said once, and the connection is closed when that goes on."""

    async def tell(client: Connection) -> None:
        await client.say({"type": "hello"})
        for message in messages:
            await client.session.receive(message)
        await until(lambda: len(client.told) == 2)
        assert client.told[1]["code"] == "bad_message"
        for _ in range(30):
            await client.session.receive(messages[-1])
        await until(lambda: client.closed == [4400])

    run(settings, story_of(writer(ids=["42"]), tell))
