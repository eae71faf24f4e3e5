"""The door over real stores: what each viewer gets of them, and what the site's rule is asked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from celery_livelog.access import standing
from celery_livelog.access.rule import Rule
from celery_livelog.access.tokens import Tokens
from celery_livelog.errors import AccessError, LivelogError, TokenError
from celery_livelog.permissions import EVERYTHING, Scope, Seen, Viewer
from celery_livelog.reader import Reader, door, hub
from celery_livelog.reader.door import reader_for
from celery_livelog.reader.merge import Batch
from celery_livelog.records import Line
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.settings import Settings
from celery_livelog.stores.archive import Archive
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.stream_reader import StreamReader
from tests.integration import site_rule
from tests.integration.stored import AT, Shipped, shipped
from tests.nodes.valkey import Valkey

#: Tasks of the run `nightly` of accounts a1 and a2, one of neither, and two of a2's run `held` that have not ended.
ONE, TWO, ALONE, RUNNING, FRESH, ABSENT = "one", "one two", "alone", "running", "fresh", "absent"
#: The numbers of attempts that tests add, in order of start.
NUMBERS = count(6)
RUN, HELD = "nightly", "held"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at now and then is looked at often."""
    monkeypatch.setattr(hub, "_QUIET_SECONDS", 0.02)
    monkeypatch.setattr(standing, "_AGAIN", 0.05)
    monkeypatch.setattr(door, "_LOOK_SECONDS", 0.02)
    site_rule.says(True)


@pytest.fixture(scope="module")
def conf(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    valkey_server.client.flushall()
    return {"livelog_redis_url": valkey_server.url, "livelog_dir": str(tmp_path_factory.mktemp("door"))}


@pytest.fixture(scope="module")
def settings(conf: dict[str, Any]) -> Settings:
    """Of a site without a rule."""
    return Settings.from_conf(conf)


@pytest.fixture(scope="module")
def ruled(conf: dict[str, Any]) -> Settings:
    """Of one with the same stores, and a rule."""
    return Settings.from_conf({**conf, "livelog_permission": site_rule.PATH})


@pytest.fixture(scope="module")
def stores(settings: Settings) -> Iterator[Shipped]:
    """What a shipper writes to: a task that has ended in each account's run, one without, and two that run."""
    with shipped(settings) as opened:
        for number, (task_id, account) in enumerate(((ONE, "a1"), (TWO, "a2"), (ALONE, "")), 1):
            run_id = RUN if account else task_id
            attempt = opened.begin(number, task_id, name=f"proj.{account}", account=account, run_id=run_id)
            opened.print(attempt, 1, 3)
            opened.end(attempt, 4)
        for number, (task_id, lease) in enumerate(((RUNNING, "a-lease"), (FRESH, "")), 4):
            attempt = opened.begin(number, task_id, lease, name="proj.a2", account="a2", run_id=HELD)
            opened.print(attempt, 1, 2)
        opened.settle()
        runs = [RunEntry(run_id=RUN, account=account, started=AT, named=True) for account in ("a1", "a2")]
        runs.append(RunEntry(run_id=HELD, account="a2", started=AT, named=True))
        stages = [
            Stage(
                attempt=f"{n:016x}", stage=1, task_id=t, run_id=RUN, account=account, started=AT, name=f"of {account}"
            )
            for n, t, account in ((1, ONE, "a1"), (2, TWO, "a2"))
        ]
        catalog = Catalog(settings.database_url)
        catalog.write([], runs, stages)
        catalog.close()
        yield opened


@asynccontextmanager
async def read_as(settings: Settings, viewer: Viewer) -> AsyncIterator[Reader]:
    """A reader of what a viewer may see; at its end nothing may go on running, or this does not end."""
    before = asyncio.all_tasks()
    root = Reader(settings)
    try:
        yield reader_for(root, viewer)
    finally:
        await root.close()
    while not asyncio.all_tasks() <= before:  # noqa: ASYNC110 - nothing tells when generators that were left have ended
        await asyncio.sleep(0)


def ask(settings: Settings, viewer: Viewer, question: Callable[[Reader], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        async with read_as(settings, viewer) as reader:
            return await question(reader)

    return asyncio.run(asyncio.wait_for(within(), 20))


def viewer(seen: Seen | Scope = EVERYTHING, **known: Any) -> Viewer:
    return Viewer(via="test", seen=(seen,) if type(seen) is Scope else seen, **known)


async def lines(reader: Reader, task_id: str, **options: Any) -> list[str]:
    batches = reader.log(task_id, **options)
    return [record.line async for batch in batches for record in batch.records if isinstance(record, Line)]


async def ways(reader: Reader, task_id: str, run_id: str) -> dict[str, list[Any]]:
    """What each way to logs and runs gives of a task and a run."""
    run = await reader.runs.get(run_id)
    return {
        "recent": [known for known in await reader.recent() if known.task_id == task_id],
        "attempts": await reader.attempts(task_id),
        "log": await lines(reader, task_id),
        "download": await lines(reader, task_id, action="download"),
        "search": await lines(reader, task_id, action="search"),
        "runs": [run for run in await reader.runs.recent() if run.run_id == run_id],
        "run": [] if run is None else [run],
        "known": await reader.runs.known(run_id),
        "run attempts": await reader.runs.attempts(run_id),
        "stages": await reader.runs.stages(run_id),
        "tail": await reader.runs.tail(run_id, 9),
        "within": await reader.runs.within("a1").attempts(run_id),
    }


def given(settings: Settings, viewer: Viewer, task_id: str = ONE, run_id: str = RUN) -> set[str]:
    """The ways that give something."""
    found = ask(settings, viewer, lambda reader: ways(reader, task_id, run_id))
    return {way for way, of_it in found.items() if of_it}


ALL = {"recent", "attempts", "log", "download", "search"}
ALL |= {"runs", "run", "known", "run attempts", "stages", "tail", "within"}


# -- the rule ---------------------------------------------------------------------------------------------------------


def test_a_rule_that_says_yes(ruled: Settings, stores: Shipped) -> None:
    """Everything is there, and the rule was asked for each way by its name."""
    assert given(ruled, viewer()) == ALL
    assert {action for action, _ in site_rule.asked} == {"list", "archive", "download", "search", "runs"}
    assert {asked for action, asked in site_rule.asked if action == "runs"} == {RUN, HELD}


class Odd:
    """Counts as true, and says so of everything that it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "odd"


@pytest.mark.parametrize("said", [False, None, 1, "yes", "True", [True], Odd()], ids=repr)
def test_what_is_no_yes(ruled: Settings, stores: Shipped, said: Any) -> None:
    """Only True is one; of all ways none gives anything."""
    site_rule.says(said)
    assert given(ruled, viewer()) == set()


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(1), KeyboardInterrupt(), RecursionError()], ids=repr)
def test_a_rule_that_fails(
    ruled: Settings, stores: Shipped, error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    """Says no, on every way; the reason is on stderr, and the server goes on."""

    def fails(*_: Any) -> bool:
        raise error

    site_rule.says(fails)
    assert given(ruled, viewer()) == set()


def test_a_rule_narrows_and_never_widens(ruled: Settings, stores: Shipped) -> None:
    """What lies in no scope stays hidden, whatever the rule says."""
    assert given(ruled, viewer(Scope(account="a1"))) == ALL
    assert given(ruled, viewer(Scope(account="a2"))) & {"attempts", "log", "recent", "within"} == set()
    assert given(ruled, viewer(())) == set()
    site_rule.says(lambda _viewer, _action, task: task.account == "a2")
    assert given(ruled, viewer(Scope(account="a1"))) == set()


def test_a_rule_knows_who_asks_and_what_for(ruled: Settings, stores: Shipped) -> None:
    """The viewer and the task are those that it is about; what one action is denied, another may be allowed."""

    def may(viewer: Viewer, action: str, task: Any) -> bool:
        return viewer.name == "bob" and action != "download" and task.name in ("proj.a1", "")

    site_rule.says(may)
    assert given(ruled, viewer(name="bob")) == ALL - {"download"}
    assert given(ruled, viewer(name="eve")) == set()
    assert given(ruled, viewer(name="bob"), TWO) & {"recent", "attempts", "log", "search"} == set()


def test_who_searches_must_be_allowed_to_read(ruled: Settings, stores: Shipped) -> None:
    """Else a search for anything would be a way around."""
    site_rule.says(lambda _viewer, action, _task: action == "search")
    assert ask(ruled, viewer(), lambda reader: lines(reader, ONE, action="search")) == []


def test_all_attempts_must_be_allowed(ruled: Settings, stores: Shipped) -> None:
    """One that is not hides the task."""
    stores.end(stores.begin(next(NUMBERS), "tried", name="proj.a1"), 0)
    stores.end(stores.begin(next(NUMBERS), "tried", name="proj.secret"), 0)
    stores.settle()
    site_rule.says(lambda _viewer, _action, task: task.name != "proj.secret")
    assert given(ruled, viewer(), "tried") & {"recent", "attempts", "log", "download", "search"} == set()


def test_a_task_that_only_the_stream_knows(
    settings: Settings, ruled: Settings, stores: Shipped, valkey_server: Valkey
) -> None:
    """Nothing tells whose it is: with a rule it is not there. Without one it is."""
    entry = {"type": "log_line", "n": 1, "attempt": "f" * 16, "timestamp": AT, "stream": "stdout", "line": "line 1"}
    valkey_server.client.xadd("task:logs:orphan", entry)
    assert given(ruled, viewer(), "orphan") & {"recent", "attempts", "log"} == set()
    assert ("archive", "orphan") in site_rule.asked
    assert given(ruled, viewer(Scope(task_id="orphan")), "orphan") == set()
    assert given(settings, viewer(), "orphan") >= {"attempts", "log"}


def test_a_list_goes_on_until_it_is_full(ruled: Settings, stores: Shipped) -> None:
    """The newest may all be hidden: then older ones are looked for."""
    site_rule.says(lambda _viewer, _action, task: getattr(task, "task_id", "") == ONE or task.account == "a1")
    assert [known.task_id for known in ask(ruled, viewer(), lambda reader: reader.recent(1))] == [ONE]
    assert [run.account for run in ask(ruled, viewer(), lambda reader: reader.runs.recent(1))] == ["a1"]


def test_a_rule_may_be_slow(ruled: Settings, stores: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits in a thread, once a list, and the loop goes on meanwhile."""
    begun, gone_on, threads = threading.Event(), threading.Event(), set[threading.Thread]()
    hops: list[int] = []
    real = Rule._ask_all

    def counted(self: Rule, viewer: Viewer, actions: Any, groups: Any, exist: bool) -> list[bool]:
        hops.append(len(groups))
        return real(self, viewer, actions, groups, exist)

    monkeypatch.setattr(Rule, "_ask_all", counted)

    def waits(*_: Any) -> bool:
        threads.add(threading.current_thread())
        begun.set()
        return gone_on.wait(20)

    site_rule.says(waits)

    async def both(reader: Reader) -> list[Any]:
        listed = asyncio.ensure_future(reader.recent())
        await asyncio.to_thread(begun.wait)
        gone_on.set()  # by the loop, while the rule waits for it
        return await listed

    listed = ask(ruled, viewer(), both)
    assert hops == [len({known.task_id for known in listed})]
    assert hops[0] > 4
    assert len(threads) == 1
    assert threading.main_thread() not in threads


# -- what is not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "rule"),
    [
        (viewer(Scope(account="a1")), None),
        (viewer(Scope(owner="7")), None),
        (viewer(Scope(run_id="another", account="a1")), None),
        (viewer(Scope(task_id="another")), None),
        (viewer(), False),
        (viewer(Scope(account="a2")), False),
        (viewer(Scope(account="a1")), False),
        (viewer([Scope(owner="7"), Scope(account="a2"), Scope(site="s")]), False),
    ],
    ids=["account", "owner", "run", "task", "rule", "rule in scope", "rule out of scope", "rule, several"],
)
def test_absent_and_forbidden_take_the_same_questions(
    settings: Settings, ruled: Settings, stores: Shipped, monkeypatch: pytest.MonkeyPatch, who: Viewer, rule: Any
) -> None:
    """To the stores and to the rule, in the same order, for tasks that have ended or run, and for runs."""
    site_rule.says(rule)
    asked: list[str] = []
    for store in (Archive, Catalog, StreamReader):
        for question, real in list(vars(store).items()):
            if callable(real) and not question.startswith("_"):

                def noted(self: object, *args: Any, _real: Any = real, _name: str = question, **more: Any) -> Any:
                    asked.append(_name)
                    return _real(self, *args, **more)

                monkeypatch.setattr(store, question, noted)

    async def questions(reader: Reader, task_id: str, run_id: str) -> list[Any]:
        found: list[Any] = []
        for way in (
            reader.attempts(task_id),
            lines(reader, task_id),
            lines(reader, task_id, action="search"),
            reader.runs.get(run_id),
            reader.runs.attempts(run_id),
            reader.runs.stages(run_id),
            reader.runs.tail(run_id, 5),
        ):
            asked.clear()
            site_rule.asked.clear()
            assert not await way
            found.append((list(asked), [action for action, _ in site_rule.asked]))
        return found

    async def compare(reader: Reader) -> None:
        absent = await questions(reader, ABSENT, ABSENT)
        for task_id in (TWO, RUNNING, FRESH):
            assert await questions(reader, task_id, HELD) == absent

    ask(settings if rule is None else ruled, who, compare)


# -- scopes of tokens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task_id", ["on", "one ", "One", "one two", "\0one", "one\0", "ONE", "", "*", "alone", "o%6ee"]
)
def test_a_token_for_a_task_shows_that_task(settings: Settings, stores: Shipped, task_id: str) -> None:
    """Exactly that: none whose id begins alike, is a part of it, or looks like it; and no run."""
    tokens = Tokens(["k" * 40])
    holder = tokens.viewer(tokens.view(task_id=ONE, expires=time.time() + 60), time.time())
    assert given(settings, holder) == {"recent", "attempts", "log", "download", "search"}
    assert given(settings, holder, task_id) == set()
    assert {known.task_id for known in ask(settings, holder, lambda reader: reader.recent())} == {ONE}
    if task_id:
        other = tokens.viewer(tokens.view(task_id=task_id, expires=time.time() + 60), time.time())
        assert given(settings, other, ONE) == set()


@pytest.mark.parametrize(("account", "own", "other"), [("a1", ONE, TWO), ("a2", TWO, ONE)])
def test_a_token_for_a_run_shows_that_run(
    settings: Settings, stores: Shipped, account: str, own: str, other: str
) -> None:
    """That of its account, with its tasks and their logs; of another account's with the same id, nothing."""
    tokens = Tokens(["k" * 40])
    token = tokens.view(run_id=RUN, account=account, expires=time.time() + 60)
    holder = tokens.viewer(token, time.time())
    assert given(settings, holder, own) >= ALL - {"within"}
    assert given(settings, holder, other) & {"recent", "attempts", "log", "download", "search"} == set()
    assert given(settings, holder, ALONE, ALONE) == set()

    async def all_of_it(reader: Reader) -> tuple[Any, ...]:
        tasks, stages = await reader.runs.attempts(RUN), await reader.runs.stages(RUN)
        tail = {attempt.task_id for attempt, _ in await reader.runs.tail(RUN, 99)}
        listed = [(run.run_id, run.account) for run in await reader.runs.recent()]
        return [known.task_id for known in tasks], [stage.name for stage in stages], tail, listed

    assert ask(settings, holder, all_of_it) == ([own], [f"of {account}"], {own}, [(RUN, account)])


@pytest.mark.parametrize("run_id", ["nightl", "nightly2", "Nightly", "nightly ", "%", "n_ghtly"])
def test_a_token_for_a_run_that_is_another(settings: Settings, stores: Shipped, run_id: str) -> None:
    """None that looks alike; and without the account, none that was begun with one."""
    tokens = Tokens(["k" * 40])
    for known in ({"run_id": run_id, "account": "a1"}, {"run_id": RUN}, {"run_id": RUN, "account": "a"}):
        holder = tokens.viewer(tokens.view(**known, expires=time.time() + 60), time.time())
        assert given(settings, holder) == set()


def test_a_token_that_is_over_shows_nothing(settings: Settings, stores: Shipped) -> None:
    """Not even to one who was let in before; it says so."""
    late = viewer(Scope(task_id=ONE), expires=time.time() - 1)
    for way in (
        lambda reader: reader.recent(),
        lambda reader: reader.attempts(ONE),
        lambda reader: lines(reader, ONE),
        lambda reader: reader.runs.recent(),
        lambda reader: reader.runs.get(RUN),
        lambda reader: reader.runs.tail(RUN, 5),
    ):
        with pytest.raises(TokenError, match="expired"):
            ask(settings, late, way)


# -- while a log is followed ------------------------------------------------------------------------------------------


async def until_it_ends(log: AsyncIterator[Batch], first: Callable[[], None]) -> LivelogError:
    """What ends a log that is followed, after `first` was called with its first batch."""
    await anext(log)
    first()
    with pytest.raises(LivelogError) as error:
        await _exhaust(log)
    return error.value


async def _exhaust(log: AsyncIterator[Batch]) -> None:
    async for _ in log:
        pass


def test_a_task_that_has_not_started_is_waited_for(settings: Settings, ruled: Settings, stores: Shipped) -> None:
    """With a token for it; and with a rule that must know it first."""

    async def follow(reader: Reader) -> list[str]:
        following = asyncio.ensure_future(lines(reader, "later", follow=True))
        await asyncio.sleep(0.1)
        assert not following.done()
        later = stores.begin(next(NUMBERS), "later", name="proj.a1")
        stores.print(later, 1, 2)
        stores.end(later, 3)
        await asyncio.to_thread(stores.settle)
        return await following

    assert ask(settings, viewer(Scope(task_id="later"), expires=time.time() + 60), follow) == ["line 1", "line 2"]
    site_rule.says(lambda _viewer, action, task: action == "live" and task.name == "proj.a1")

    async def again(reader: Reader) -> list[str]:
        return await lines(reader, "later", follow=True)

    assert ask(ruled, viewer(), again) == ["line 1", "line 2"]


@pytest.mark.parametrize("quiet", [True, False])
def test_a_rule_that_changes_its_mind(ruled: Settings, stores: Shipped, quiet: bool) -> None:
    """What is followed ends some seconds later, whether anything is printed meanwhile or not."""
    task_id = f"quiet {quiet}"
    running = stores.begin(next(NUMBERS), task_id, name="proj.a1")
    stores.print(running, 1, 2)
    stores.settle()

    async def follow(reader: Reader) -> LivelogError:
        async def print_on() -> None:
            for n in range(3, 10_000):
                stores.print(running, n, n)
                await asyncio.to_thread(stores.settle)

        printing = None if quiet else asyncio.ensure_future(print_on())
        ended = await until_it_ends(reader.log(task_id, follow=True), lambda: site_rule.says(False))
        if printing is not None:
            printing.cancel()
            await asyncio.wait({printing})
        return ended

    assert isinstance(ask(ruled, viewer(), follow), AccessError)


def test_a_token_that_ends_meanwhile(settings: Settings, stores: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is followed with it ends, too, however long ago anything was asked."""
    monkeypatch.setattr(standing, "_AGAIN", 60.0)
    stores.print(stores.begin(next(NUMBERS), "brief"), 1, 2)
    stores.settle()
    holder = viewer(Scope(task_id="brief"), expires=time.time() + 60)

    async def follow(reader: Reader) -> LivelogError:
        later = time.time() + 60
        log = reader.log("brief", follow=True)
        return await until_it_ends(log, lambda: monkeypatch.setattr("celery_livelog.access.bounds.time", lambda: later))

    assert isinstance(ask(settings, holder, follow), TokenError)


def test_a_task_that_becomes_another_s(settings: Settings, stores: Shipped) -> None:
    """An attempt of another account that joins the log hides it: not one line of that is shown."""
    stores.print(stores.begin(next(NUMBERS), "moved", account="a1"), 1, 2)
    stores.settle()

    async def follow(reader: Reader) -> None:
        log = reader.log("moved", follow=True)
        await anext(log)
        other = stores.begin(next(NUMBERS), "moved", account="a2")
        stores.put(other, [Line(n=1, timestamp=AT, stream="stdout", line="of another")])
        await asyncio.to_thread(stores.settle)
        with pytest.raises(AccessError):
            await anext(log)

    ask(settings, viewer(Scope(account="a1")), follow)


def test_a_second_try_goes_on(ruled: Settings, stores: Shipped) -> None:
    """An attempt that may be seen joins as ever."""
    running = stores.begin(next(NUMBERS), "again", name="proj.a1")
    stores.print(running, 1, 2)
    stores.settle()

    async def follow(reader: Reader) -> list[str]:
        log = reader.log("again", follow=True)
        assert len((await anext(log)).records) == 2
        stores.end(running, 3, "RETRY")
        again = stores.begin(next(NUMBERS), "again", name="proj.a1")
        stores.print(again, 1, 1)
        stores.end(again, 2)
        await asyncio.to_thread(stores.settle)
        return [record.line async for batch in log for record in batch.records if isinstance(record, Line)]

    assert ask(ruled, viewer(), follow) == ["line 1"]
