"""Functions that are stages stay what they are, whoever calls them; lines belong to the stage of who prints them."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_livelog import progress, stage, threads, trace
from celery_livelog.frames import STDOUT
from celery_livelog.records import End, Line, Record, StageComplete, StageError, StageProgress, StageStart, Trace
from celery_livelog.writer import AttemptWriter, current, innermost
from tests.nodes.waiting import wait_for
from tests.unit.journals import ENDING, begin, open_journal, records


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AttemptWriter]:
    """The running task's writer."""
    journal = open_journal(tmp_path)
    writer = begin(journal)
    token = current.set(writer)
    threads.install()
    yield writer
    threads.uninstall()
    current.reset(token)
    assert innermost.get() is None
    journal.close()


def told(writer: AttemptWriter, directory: Path) -> list[Record]:
    """The records of the task, now ended, without its end."""
    writer.end(ENDING)
    *found, end = records(directory)
    assert isinstance(end, End)
    return found


def say(text: str) -> None:
    """Print a line in the running task."""
    writer = current.get()
    assert writer is not None
    writer.write(STDOUT, f"{text}\n")


def stages_of_lines(found: list[Record]) -> dict[str, int | None]:
    return {record.line: record.stage for record in found if isinstance(record, Line)}


def states(found: list[Record]) -> dict[int, str]:
    """How each stage has ended."""
    ended = [record for record in found if isinstance(record, (StageComplete, StageError))]
    assert len(ended) == len({record.stage for record in ended})
    return {record.stage: "complete" if isinstance(record, StageComplete) else record.error for record in ended}


def test_each_thread_has_its_own_stages(writer: AttemptWriter, tmp_path: Path) -> None:
    """What is printed in a thread is in the stage that the thread is in: its own, or that in which it was started."""
    both, one_left = threading.Barrier(2, timeout=10), threading.Event()

    def work(name: str) -> None:
        say(f"{name} outer")
        with stage(name):
            both.wait()
            say(name)
            if name == "b":
                one_left.wait(10)
            say(f"{name} again")
        one_left.set()
        say(f"{name} outer again")

    with stage("Outer"), ThreadPoolExecutor(2) as pool:
        list(pool.map(work, "ab"))
        thread = threading.Thread(target=say, args=["thread"])
        thread.start()
        thread.join()
    found = told(writer, tmp_path)
    number = {record.name: record.stage for record in found if isinstance(record, StageStart)}
    assert sorted(number.values()) == [1, 2, 3]
    assert stages_of_lines(found) == {
        **{name: number[name] for name in "ab"},
        **{f"{name} again": number[name] for name in "ab"},
        **{f"{name} outer": 1 for name in "ab"},
        **{f"{name} outer again": 1 for name in "ab"},
        "thread": 1,
    }


def test_each_asyncio_task_has_its_own_stages(writer: AttemptWriter, tmp_path: Path) -> None:
    """Also when they take turns within their stages, and end in another order than they began."""

    async def work(name: str, turns: int) -> None:
        with stage(name):
            for turn in range(turns):
                await asyncio.sleep(0)
                say(f"{name} {turn}")

    async def main() -> None:
        with stage("Outer"):
            await asyncio.gather(work("a", 4), work("b", 2), work("c", 3))
            say("outer")

    asyncio.run(main())
    found = told(writer, tmp_path)
    number = {record.name: record.stage for record in found if isinstance(record, StageStart)}
    lines = stages_of_lines(found)
    assert lines.pop("outer") == number["Outer"]
    assert len(lines) == 9
    assert all(stage == number[line[0]] for line, stage in lines.items())


def test_a_generator_is_in_its_stage_and_its_caller_is_not(writer: AttemptWriter, tmp_path: Path) -> None:
    """Two that are read in turn do not mix; the stage spans the iteration."""

    @stage("Read")
    def read(name: str) -> Iterator[int]:
        for number in range(2):
            say(f"{name} {number}")
            yield number
        say(f"{name} done")

    with stage("Main"):
        for one, other in zip(read("a"), read("b"), strict=False):
            say(f"main {one} {other}")
    found = told(writer, tmp_path)
    lines = stages_of_lines(found)
    assert {line: lines[line] for line in lines if line[0] == "m"} == {"main 0 0": 1, "main 1 1": 1}
    assert {lines[line] for line in lines if line[0] == "a"} == {2}
    assert {lines[line] for line in lines if line[0] == "b"} == {3}
    assert states(found) == {1: "complete", 2: "complete", 3: "complete"}


def test_a_generator_is_used_as_without(writer: AttemptWriter, tmp_path: Path) -> None:
    """What is sent, thrown and returned goes through, and what is raised comes out."""

    @stage("Talk")
    def talk() -> Any:
        heard = []
        try:
            while True:
                try:
                    heard.append((yield len(heard)))
                except KeyError as error:
                    heard.append(error)
                if heard[-1] == "stop":
                    return heard
        finally:
            say("closed")

    assert inspect.isgeneratorfunction(talk)
    first, error = talk(), KeyError("thrown")
    assert (next(first), first.send("one"), first.throw(error)) == (0, 1, 2)
    with pytest.raises(StopIteration) as stopped:
        first.send("stop")
    assert stopped.value.value == ["one", error, "stop"]
    second = talk()
    next(second)
    with pytest.raises(ValueError, match="unknown"):
        second.throw(ValueError("unknown"))
    third = talk()
    next(third)
    third.close()
    fourth = talk()
    next(fourth)
    del fourth
    gc.collect()
    never = talk()
    never.close()
    found = told(writer, tmp_path)
    assert states(found) == {1: "complete", 2: "ValueError: unknown", 3: "complete", 4: "complete"}
    assert [record.stage for record in found if isinstance(record, Line)] == [1, 2, 3, 4]


def test_an_async_generator_is_used_as_without(writer: AttemptWriter, tmp_path: Path) -> None:
    """The same, over an event loop."""

    @stage("Talk")
    async def talk(count: int) -> Any:
        for number in range(count):
            await asyncio.sleep(0)
            say(f"{count} {number}")
            try:
                say(f"heard {yield number}")
            except KeyError:
                say("caught")

    async def main() -> None:
        with stage("Main"):
            async for number in talk(2):
                say(f"main {number}")
            one = talk(3)
            await one.asend(None)
            await one.asend("hello")
            await one.athrow(KeyError())
            with pytest.raises(StopAsyncIteration):
                await one.asend(None)
            closed = talk(4)
            await closed.asend(None)
            await closed.aclose()
            failed = talk(5)
            await failed.asend(None)
            with pytest.raises(ValueError, match="unknown"):
                await failed.athrow(ValueError("unknown"))

    assert inspect.isasyncgenfunction(talk)
    asyncio.run(main())
    found = told(writer, tmp_path)
    assert states(found) == {1: "complete", 2: "complete", 3: "complete", 4: "complete", 5: "ValueError: unknown"}
    lines = stages_of_lines(found)
    assert (lines["main 0"], lines["2 1"], lines["heard hello"], lines["caught"]) == (1, 2, 3, 3)


def noisy(function: Callable[..., Any]) -> Callable[..., Any]:
    """Another decorator."""

    @functools.wraps(function)
    def louder(*args: Any, **kwargs: Any) -> Any:
        say("louder")
        return function(*args, **kwargs)

    return louder


class Builder:
    """Its methods are stages."""

    name = "builder"

    @stage("method")
    def method(self, suffix: str = "") -> str:
        return self.name + suffix

    @stage("async method")
    async def async_method(self) -> str:
        return self.name

    @stage("static outside")
    @staticmethod
    def static_outside() -> str:
        return "static"

    @staticmethod
    @stage("static inside")
    def static_inside() -> str:
        return "static"

    @stage("class outside")
    @classmethod
    def class_outside(cls) -> str:
        return cls.__name__

    @classmethod
    @stage("class inside")
    def class_inside(cls) -> str:
        return cls.__name__

    @property
    @stage("property")
    def shown(self) -> str:
        return self.name

    @noisy
    @stage("below")
    def below(self, number: int, *, key: str = "k") -> int:
        """Documented."""
        return number

    @stage("above")
    @noisy
    def above(self, number: int, *, key: str = "k") -> int:
        """Documented."""
        return number


def test_methods_of_all_kinds_are_stages(writer: AttemptWriter, tmp_path: Path) -> None:
    """In either order with other decorators; they keep name, signature, documentation and kind."""
    builder = Builder()
    assert (builder.method("!"), asyncio.run(builder.async_method())) == ("builder!", "builder")
    assert (builder.static_outside(), Builder.static_inside()) == ("static", "static")
    assert (builder.class_outside(), Builder.class_inside()) == ("Builder", "Builder")
    assert (builder.shown, builder.below(1), builder.above(2)) == ("builder", 1, 2)
    assert inspect.iscoroutinefunction(builder.async_method)
    for method in (Builder.below, Builder.above):
        assert str(inspect.signature(method)) == "(self, number: 'int', *, key: 'str' = 'k') -> 'int'"
        assert method.__doc__ == "Documented."
        assert method.__name__ in ("below", "above")
    names = [record.name for record in told(writer, tmp_path) if isinstance(record, StageStart)]
    assert names == [
        *("method", "async method", "static outside", "static inside", "class outside", "class inside"),
        *("property", "below", "above"),
    ]


def test_each_call_is_a_stage(writer: AttemptWriter, tmp_path: Path) -> None:
    """Of a recursion, too: the inner ones end first."""

    @stage("Count")
    def count(down: int) -> int:
        say(f"at {down}")
        return down and count(down - 1)

    count(2)
    found = told(writer, tmp_path)
    assert stages_of_lines(found) == {"at 2": 1, "at 1": 2, "at 0": 3}
    assert [record.stage for record in found if isinstance(record, StageComplete)] == [3, 2, 1]


def test_a_task_is_a_stage_in_either_order(writer: AttemptWriter, tmp_path: Path) -> None:
    """Above ``@app.task`` it is still a task."""
    app = Celery("stages", set_as_current=False)

    @stage("above")
    @app.task(name="above")
    def above(number: int) -> int:
        return number

    @app.task(name="below", bind=True)
    @stage("below")
    def below(self: Any, number: int) -> Any:
        return self.name, number

    @stage("bound")
    @app.task(name="bound", bind=True)
    def bound(self: Any, number: int) -> Any:
        return self.name, number

    assert (above(1), below(2), bound(number=3)) == (1, ("below", 2), ("bound", 3))
    assert above.delay is not None
    assert app.tasks["above"].run(4) == 4
    names = [record.name for record in told(writer, tmp_path) if isinstance(record, StageStart)]
    assert names == ["above", "below", "bound", "above"]


def failing() -> None:
    """Raises."""
    raise ValueError("deliberate")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 puts the frame back")
def test_tracebacks_are_as_without(writer: AttemptWriter, tmp_path: Path) -> None:
    """No frame of ours is in what goes on: of a plain function, a coroutine or a generator."""

    def names(call: Callable[[], object]) -> list[str]:
        try:
            call()
        except ValueError as error:
            return [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        raise AssertionError

    async def coroutine() -> None:
        failing()

    def generator() -> Iterator[int]:
        yield 1
        failing()

    async def async_generator() -> AsyncIterator[int]:
        yield 1
        failing()

    async def awaits(function: Any) -> None:
        await function()

    async def iterates(function: Any) -> None:
        async for _ in function():
            pass

    wrap = stage("Fails")
    assert names(wrap(failing)) == names(failing)
    assert names(lambda: asyncio.run(awaits(wrap(coroutine)))) == names(lambda: asyncio.run(awaits(coroutine)))
    assert names(lambda: list(wrap(generator)())) == names(lambda: list(generator()))
    assert names(lambda: asyncio.run(iterates(wrap(async_generator)))) == names(
        lambda: asyncio.run(iterates(async_generator))
    )


def test_a_stage_that_is_entered_again(writer: AttemptWriter, tmp_path: Path) -> None:
    """After its end it is a new stage; within, and in another thread, it is one of its own."""
    step = stage("Again")
    with step:
        step.advance()
    with step as outer:
        assert outer.number == 2
        with step as inner:
            inner.advance(5)
            say("inner")
        say("outer")
        with ThreadPoolExecutor(1) as pool, step as third:
            pool.submit(third.advance, 7).result()
    step.advance(100)
    step.progress(1)
    step.result("late")
    found = told(writer, tmp_path)
    assert stages_of_lines(found) == {"inner": 3, "outer": 2}
    assert {record.stage: record.processed for record in found if isinstance(record, StageComplete)} == {
        1: 1, 2: 0, 3: 5, 4: 7,
    }  # fmt: skip
    assert isinstance(found[-1], StageComplete)


def test_a_stage_that_is_left_elsewhere(writer: AttemptWriter, tmp_path: Path) -> None:
    """A generator's own ``with stage(…)``, thrown away in another thread, ends there and disturbs nobody."""

    def read() -> Iterator[int]:
        with stage("Read"):
            yield 1

    reading = [read()]
    next(reading[0])
    say("in it")
    with stage("Main"):
        thread = threading.Thread(target=reading.clear)
        thread.start()
        thread.join()
        say("main")
    say("after")
    found = told(writer, tmp_path)
    assert stages_of_lines(found) == {"in it": 1, "main": 2, "after": None}
    assert states(found) == {1: "complete", 2: "complete"}


def test_no_step_of_any_thread_is_lost(writer: AttemptWriter, tmp_path: Path) -> None:
    """Threads that count in one stage need no lock."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with stage("Count") as step, ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(lambda: [step.advance() for _ in range(5000)])
    finally:
        sys.setswitchinterval(interval)
    complete = told(writer, tmp_path)[-1]
    assert isinstance(complete, StageComplete)
    assert complete.processed == 20_000


def test_progress_that_was_held_back_is_told(writer: AttemptWriter, tmp_path: Path) -> None:
    """A stage that then stands still, perhaps until it is killed, shows how far it came."""

    def last() -> int:
        return max((record.done for record in records(tmp_path) if isinstance(record, StageProgress)), default=0)

    with stage("Long") as step:
        for _ in range(50):
            step.advance()
        wait_for(lambda: last() == 50, 10, "the last progress")


def test_a_loop_with_progress_is_a_stage(writer: AttemptWriter, tmp_path: Path) -> None:
    """With the arguments of tqdm; lines of its body belong to it; a loop that is left ends it."""
    for item in progress(["a", "b"], desc="Fetch", leave=False, unit="page"):
        say(item)
    for number in progress(iter(range(9)), "Read", 9):
        if number == 3:
            break
    assert list(progress((), name="Nothing")) == []
    assert len(progress([1, 2, 3])) == 3
    say("after")
    found = told(writer, tmp_path)
    starts = [(record.name, record.pending) for record in found if isinstance(record, StageStart)]
    assert starts == [("Fetch", 2), ("Read", 9), ("Nothing", 0)]
    assert [record.processed for record in found if isinstance(record, StageComplete)] == [2, 3, 0]
    assert stages_of_lines(found) == {"a": 1, "b": 1, "after": None}


def test_a_trace_belongs_to_the_stage_it_is_left_in(writer: AttemptWriter, tmp_path: Path) -> None:
    """Any name for its data is good."""
    trace("began", event="same name", self=1)
    with stage("Fetch") as fetch:
        trace("fetched", url="/")
        fetch.trace("also", self=2, event=3)
    found = [record for record in told(writer, tmp_path) if isinstance(record, Trace)]
    assert [(record.event, record.data, record.stage) for record in found] == [
        ("began", {"event": "same name", "self": 1}, None),
        ("fetched", {"url": "/"}, 1),
        ("also", {"self": 2, "event": 3}, 1),
    ]


def test_outside_a_task_only_the_code_runs() -> None:
    """All of it works, and nothing is left behind."""
    assert current.get() is None

    @stage("Generate")
    def generate() -> Iterator[int]:
        yield from progress([1, 2])

    trace("nothing", key=1)
    with stage("Nowhere") as step:
        assert list(generate()) == [1, 2]
        step.advance("odd")  # type: ignore[arg-type]
        step.progress(None)  # type: ignore[arg-type]
    assert innermost.get() is None
