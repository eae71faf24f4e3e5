"""The live stream sink with a real Valkey: what is put is in the streams, whatever becomes of Valkey meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest

from celery_livelog.attempts import Attempt
from celery_livelog.reader.merge import Merge
from celery_livelog.records import End, Gap, Line, Partial, Record
from celery_livelog.settings import Settings
from celery_livelog.shipper import live as shipper_live
from celery_livelog.shipper import sending
from celery_livelog.shipper.live import Live
from celery_livelog.stores import stream as stream_store
from celery_livelog.stores.entries import from_fields
from celery_livelog.stores.stream_reader import StreamReader
from celery_livelog.stores.stream_writer import StreamWriter
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

AT = "2026-01-02T03:04:05.000006+00:00"

Open = Callable[..., Live]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open the sink for a Valkey; all are closed at the end. It bounds at once, and soon takes a Redis for away."""
    monkeypatch.setattr(shipper_live, "_BOUND_SECONDS", 0.0)
    monkeypatch.setattr(sending, "_REFUSED_SECONDS", 0.2)
    monkeypatch.setattr(stream_store, "_TIMEOUT", 0.5)
    opened: list[Live] = []

    def start(valkey: Valkey, maxlen: int = 100_000, keep_finished: int = 1000, **settings: Any) -> Live:
        writer = StreamWriter(valkey.url, "task:logs:", maxlen, 3600)
        chosen = Settings(redis_url=valkey.url, maxlen=maxlen, keep_finished=keep_finished, **settings)
        opened.append(Live(writer, chosen, lambda: ["a-lease"]))
        return opened[-1]

    yield start
    for one in opened:
        one.close(10)


@pytest.fixture
def own_valkey(launch: Callable[[Valkey], Valkey], tmp_path: Path) -> Valkey:
    """A Valkey that a test may kill."""
    directory = tmp_path / "own"
    directory.mkdir()
    return launch(Valkey(directory, name="own"))


def attempt(task_id: str = "a-task", name: str = "00aa11bb00aa11bb") -> Attempt:
    return Attempt(attempt=name, task_id=task_id, started=AT)


def lines(first: int, last: int) -> list[Record]:
    return [Line(n=n, timestamp=AT, stream="stdout", line=f"line {n}") for n in range(first, last + 1)]


def ended(of: Attempt, n: int) -> list[Record]:
    """The end of an attempt, which says so from now on."""
    of.state, of.ended = "SUCCESS", AT
    return [End(n=n, timestamp=AT, state="SUCCESS", exit_code=0)]


def stream(valkey: Valkey, task_id: str = "a-task") -> list[Record]:
    """The records of a task's stream."""
    entries: Any = valkey.client.xrange(f"task:logs:{task_id}")
    return [from_fields(fields)[1] for _, fields in entries]


def numbers(records: list[Record]) -> list[int]:
    return [record.n for record in records]


def index(valkey: Valkey) -> list[str]:
    """What the index says of attempts, oldest first."""
    entries: Any = valkey.client.xrange("task:logs::index")
    return [fields["attempt"] for _, fields in entries]


def idle(sink: Live) -> bool:
    """Whether it has nothing left to do, as a shipper asks round by round."""
    sink.tick()
    return sink.idle


def check_whole(records: list[Record], last: int) -> None:
    """What a reader makes of a stream with doubles: each number up to `last` once, as record or in a gap."""
    read = Merge().accept("00aa11bb", records).records
    covered = [n for record in read for n in range(record.first if isinstance(record, Gap) else record.n, record.n + 1)]
    assert covered == list(range(1, last + 1))
    assert not [record for record in read if isinstance(record, Gap) and record.reason == "trim"]


def test_what_is_put_is_in_the_stream(live: Open, valkey: Valkey) -> None:
    """In order, with partials in their place; the index knows beginning and end; all keys expire."""
    sink, of = live(valkey), attempt()
    half = Partial(n=3, timestamp=AT, stream="stdout", line="li")
    sink.put(of, [*lines(1, 2), half], resumed=False)
    wait_for(lambda: len(index(valkey)) == 1)
    given = [*lines(1, 2), half, *lines(3, 2500), *ended(of, 2501)]
    sink.put(of, given[3:], resumed=False)
    wait_for(lambda: len(stream(valkey)) == len(given))
    assert stream(valkey) == given
    wait_for(lambda: len(index(valkey)) == 2)
    assert ['"state"' in entry for entry in index(valkey)] == [False, True]  # a default is left out
    assert all(0 < valkey.client.ttl(key) <= 3600 for key in valkey.client.scan_iter())


def test_many_attempts_at_once(live: Open, valkey: Valkey) -> None:
    """What many tasks print in turn is in their own streams, in order."""
    sink = live(valkey)
    attempts = [attempt(f"task-{number}", f"{number:016x}") for number in range(50)]
    for n in range(1, 21):
        for of in attempts:
            sink.put(of, lines(n, n), resumed=False)
    for of in attempts:
        sink.put(of, ended(of, 21), resumed=False)
    wait_for(lambda: sum('"state"' in entry for entry in index(valkey)) == 50)  # the ends
    for of in attempts:
        assert numbers(stream(valkey, of.task_id)) == list(range(1, 22))


@pytest.mark.parametrize("sent", [500, 1000, 2300])
def test_a_new_shipper_goes_on_where_the_last_one_was(live: Open, valkey: Valkey, sent: int) -> None:
    """All is put again from the first record; what the stream has is not sent again, and what it lacks is."""
    first, of = live(valkey), attempt()
    first.put(of, lines(1, sent), resumed=False)
    wait_for(lambda: len(stream(valkey)) == sent)
    second, again = live(valkey), attempt()
    second.put(again, [*lines(1, 3000), *ended(again, 3001)], resumed=True)
    wait_for(lambda: isinstance(stream(valkey)[-1], End))
    assert numbers(stream(valkey)) == list(range(1, 3002))


def test_a_new_shipper_with_nothing_to_add(live: Open, valkey: Valkey) -> None:
    """When the last one had sent even the end, the new one only finishes: the stream is bounded as all are."""
    first, of = live(valkey), attempt()
    given = [*lines(1, 1500), *ended(of, 1501)]
    first.put(of, given, resumed=False)
    wait_for(lambda: len(stream(valkey)) == 1501)
    valkey.client.delete("task:logs::finished")
    second = live(valkey)
    second.put(of, given, resumed=True)
    wait_for(lambda: idle(second))
    assert valkey.client.zrange("task:logs::finished", 0, -1) == ["a-task"]
    assert numbers(stream(valkey)) == list(range(1, 1502))


def test_a_stream_that_vanishes_begins_again(live: Open, valkey: Valkey) -> None:
    """Somebody deletes a stream: what comes is in a new one, with a time to live, and nothing of it is lost."""
    sink, of = live(valkey), attempt()
    sink.put(of, lines(1, 10), resumed=False)
    wait_for(lambda: len(stream(valkey)) == 10)
    valkey.client.delete("task:logs:a-task")
    sink.put(of, [*lines(11, 20), *ended(of, 21)], resumed=False)
    wait_for(lambda: sink._sink.idle)
    assert numbers(stream(valkey)) == list(range(11, 22))
    assert valkey.client.ttl("task:logs:a-task") > 0


def test_a_key_that_is_no_stream_harms_no_other(live: Open, valkey: Valkey) -> None:
    """Where somebody has put another thing, that log cannot be live; the others are, and what it missed is told."""
    valkey.client.set("task:logs:taken", "a text")
    sink, taken, other = live(valkey), attempt("taken", "1" * 16), attempt("other", "2" * 16)
    for n in range(1, 11):
        sink.put(taken, lines(n, n), resumed=False)
        sink.put(other, lines(n, n), resumed=False)
    sink.put(other, ended(other, 11), resumed=False)
    wait_for(lambda: numbers(stream(valkey, "other")) == list(range(1, 12)))
    wait_for(lambda: sink._sink.idle)
    assert valkey.client.get("task:logs:taken") == "a text"
    valkey.client.delete("task:logs:taken")
    sink.put(taken, ended(taken, 11), resumed=False)
    wait_for(lambda: idle(sink) and valkey.client.exists("task:logs:taken"))
    check_whole(stream(valkey, "taken"), 11)
    (gap, _) = stream(valkey, "taken")
    assert (gap.first, gap.last, gap.reason) == (1, 10, "redis")  # type: ignore[union-attr]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_key_that_is_no_stream_to_the_end(live: Open, valkey: Valkey, resumed: bool, capfd: Any) -> None:
    """Alone in the queue it is no reason to try for ever, nor to take Redis for away."""
    valkey.client.set("task:logs:taken", "a text")
    sink, taken = live(valkey), attempt("taken")
    sink.put(taken, [*lines(1, 3000), *ended(taken, 3001)], resumed=resumed)
    wait_for(lambda: idle(sink))
    assert sink._logs == {}
    assert "cannot be written" not in capfd.readouterr().err


def test_keys_are_never_without_a_time_to_live(live: Open, own_valkey: Valkey) -> None:
    """Also one that a batch has just begun, which Redis executes in pieces."""
    sink, of = live(own_valkey), attempt()
    with own_valkey.client.monitor() as monitor:
        sink.put(of, [*lines(1, 1000), *ended(of, 1001)], resumed=False)
        wait_for(lambda: idle(sink))
        own_valkey.client.echo("the end")
        said = iter(monitor.next_command, None)
        heard = [
            command.split()[:2] for command in takewhile(lambda command: "the end" not in command, map(_text, said))
        ]
    created: set[str] = set()
    for (command, *key), (then, *of_key) in pairwise(heard):
        if command in ("XADD", "ZADD") and key[0] not in created:
            assert (then, of_key) == ("EXPIRE", key)
            created.add(key[0])
    assert created == {"task:logs:a-task", "task:logs::index", "task:logs::finished", "task:logs::sizes"}


def _text(said: dict[str, Any]) -> str:
    return str(said["command"])


def test_who_may_not_expire_writes_nothing(live: Open, own_valkey: Valkey) -> None:
    """A user without the right to EXPIRE would leave keys that stay for ever."""
    own_valkey.client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-expire"])
    sink, of = live(own_valkey), attempt()
    sink.put(of, lines(1, 10), resumed=False)
    wait_for(lambda: own_valkey.client.info("errorstats").get("errorstat_NOPERM"))
    assert own_valkey.client.dbsize() == 0
    own_valkey.client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"])
    wait_for(lambda: numbers(stream(own_valkey)) == list(range(1, 11)))


@pytest.mark.parametrize("task_id", ["a\0b", "\u202e", ":index"], ids=ascii)
def test_any_task_id(live: Open, valkey: Valkey, task_id: str) -> None:
    """It is in a stream, is found there by a reader, and goes as the oldest."""
    sink, of, other = live(valkey, keep_finished=1), attempt(task_id, "1" * 16), attempt("other", "2" * 16)
    sink.put(of, [*lines(1, 3), *ended(of, 4)], resumed=False)
    wait_for(lambda: read(valkey, task_id) == ([1, 2, 3, 4], [1, 2, 3, 4]))
    wait_for(lambda: idle(sink))
    sink.put(other, [*lines(1, 1), *ended(other, 2)], resumed=False)
    wait_for(lambda: idle(sink) and read(valkey, task_id) == ([], []), what="the end of the older of two streams")


def read(valkey: Valkey, task_id: str) -> tuple[list[int], list[int]]:
    """The numbers that a reader finds in a stream: at once, and by waiting for them."""

    async def asked() -> tuple[list[int], list[int]]:
        reader = StreamReader(valkey.url, "task:logs:")
        try:
            entries = await reader.after(task_id, "", 10)
            waited = (await reader.wait({task_id: ""}, 10)).entries if entries else {}
        finally:
            await reader.close()
        return [record.n for *_, record in entries], [record.n for *_, record in waited.get(task_id, [])]

    return asyncio.run(asked())


def test_a_redis_that_is_away_gets_what_fits_later(live: Open, own_valkey: Valkey) -> None:
    """The newest wait for it; what had to make room is a gap in their place, and the end is there."""
    sink, of = live(own_valkey, maxlen=500), attempt()
    sink.put(of, lines(1, 10), resumed=False)
    wait_for(lambda: len(stream(own_valkey)) == 10)
    own_valkey.kill()
    for at in range(11, 2011, 100):
        sink.put(of, lines(at, at + 99), resumed=False)
    sink.put(of, ended(of, 2011), resumed=False)
    assert not sink.idle
    own_valkey.start()
    wait_for(lambda: own_valkey.client.exists("task:logs:a-task") and isinstance(stream(own_valkey)[-1], End))
    found = stream(own_valkey)
    assert isinstance(found[0], Gap)
    assert (found[0].first, found[0].reason) == (11, "overload")
    check_whole([*lines(1, 10), *found], 2011)
    assert len(found) >= 400


def test_a_redis_that_hangs_loses_nothing(live: Open, own_valkey: Valkey) -> None:
    """Whether what it did not answer was executed nobody knows: it is sent again, and a reader sees it once."""
    sink, of = live(own_valkey), attempt()
    sink.put(of, lines(1, 10), resumed=False)
    wait_for(lambda: len(stream(own_valkey)) == 10)
    own_valkey.client.client_pause(800)
    sink.put(of, [*lines(11, 1500), *ended(of, 1501)], resumed=False)
    wait_for(lambda: sink._sink.idle)
    check_whole(stream(own_valkey), 1501)


def test_the_oldest_finished_streams_go(live: Open, valkey: Valkey) -> None:
    """Where only the worker reads its archive, streams of the newest finished tasks stay, and no others."""
    sink = live(valkey, keep_finished=5)
    for number in range(30):
        of = attempt(f"task-{number}", f"{number:016x}")
        sink.put(of, [*lines(1, 1), *ended(of, 2)], resumed=False)
        wait_for(lambda: sink._sink.idle)  # one after the other, so that it is known which are newest
    wait_for(lambda: idle(sink))
    assert sorted(valkey.client.keys("task:logs:task-*")) == [f"task:logs:task-{number}" for number in range(25, 30)]


def test_an_archived_stream_goes_after_a_grace(live: Open, valkey: Valkey) -> None:
    """Where all can read the archive, a stream expires soon once its log is archived and all of it was sent."""
    sink, of = live(valkey, archive_shared=True), attempt()
    sink.put(of, lines(1, 5000), resumed=False)
    sink.put(of, ended(of, 5001), resumed=False)
    sink.archived(of)
    wait_for(lambda: 0 < valkey.client.ttl("task:logs:a-task") <= 5)
    assert len(stream(valkey)) == 5001


def test_nothing_is_left_to_wait_for_when_redis_is_away(live: Open, own_valkey: Valkey) -> None:
    """A worker that ends need not wait for a lease that nobody takes, but for lines it does."""
    sink, of = live(own_valkey), attempt()
    own_valkey.kill()
    assert idle(sink)
    wait_for(lambda: not sink._sink.idle)
    assert idle(sink)
    sink.put(of, [*lines(1, 3), *ended(of, 4)], resumed=False)
    assert not idle(sink)
    own_valkey.start()
    wait_for(lambda: idle(sink))
    assert numbers(stream(own_valkey)) == [1, 2, 3, 4]
