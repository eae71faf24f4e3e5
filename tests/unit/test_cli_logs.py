"""``livelog logs`` over a reader that gives what each test says: what is shown where, and the exit code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from celery_livelog.access.rule import Rule
from celery_livelog.attempts import Attempt
from celery_livelog.cli import livelog
from celery_livelog.cursors import Cursor
from celery_livelog.permissions import LIST
from celery_livelog.reader import Batch
from celery_livelog.records import End, Gap, Line, Partial, Record, StageStart

AT = "2026-01-02T03:04:05.000006+00:00"
FIRST, SECOND = "a" * 16, "b" * 16

Log = Callable[..., Result]


def line(n: int, text: str, stream: str = "stdout", **fields: Any) -> Line:
    return Line(n=n, timestamp=AT, stream=stream, line=text, **fields)


def end(n: int, state: str = "SUCCESS", exit_code: int = 0, reason: str = "") -> End:
    return End(n=n, timestamp=AT, state=state, exit_code=exit_code, reason=reason)


def attempt(name: str, state: str = "STARTED", **fields: Any) -> Attempt:
    return Attempt(
        attempt=name, task_id="id", started=AT, ended="" if state == "STARTED" else AT, state=state, **fields
    )


class ScriptedReader:
    """Gives the batches of `now`, and to those who follow those of `later`, too."""

    rule = Rule(None)

    def __init__(
        self, now: Sequence[Batch], later: Sequence[Batch] = (), attempts: Sequence[Attempt] | None = None
    ) -> None:
        self.now, self.later = now, later
        names = dict.fromkeys(batch.attempt for batch in now)
        self.known = list(attempts) if attempts is not None else [attempt(name) for name in names]
        self.closed = False
        self.error: BaseException | None = None

    async def attempts(self, task_id: str, *, action: str = LIST) -> list[Attempt]:
        return [known for known in self.known if known.task_id == task_id]

    async def log(
        self,
        task_id: str,
        *,
        after: Cursor | None = None,
        tail: int | None = None,
        attempt: int | None = None,
        follow: bool = False,
        action: str | None = None,
    ) -> AsyncIterator[Batch]:
        seen = after is None
        left = _before_last(self.now, tail)
        for batch in [*self.now, *(self.later if follow else ())]:
            records: list[Record] = []
            for record in batch.records:
                left -= 1
                if seen and left < 0 and attempt in (None, batch.number):
                    records.append(record)
                seen = seen or after == Cursor(batch.attempt, record.n)
            if records:
                yield Batch(batch.attempt, batch.number, records)
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed = True


def _before_last(batches: Sequence[Batch], count: int | None) -> int:
    """How many records come before the last `count`; ends are not counted."""
    records = [record for batch in batches for record in batch.records]
    places = [place for place, record in enumerate(records) if not isinstance(record, End)]
    return 0 if count is None or count > len(places) else len(records) if not count else places[-count]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Run ``livelog logs id`` with more arguments and a reader; the app has no settings of its own."""

    def run(reader: ScriptedReader, *arguments: str, conf: dict[str, Any] | None = None) -> Result:
        monkeypatch.setattr("celery_livelog.cli.session.Reader", lambda *_: reader)
        context = SimpleNamespace(app=SimpleNamespace(conf=conf or {}), no_color=False)
        return CliRunner().invoke(livelog, ["logs", "id", *arguments], obj=context)

    return run


PRINTED = Batch(FIRST, 1, [line(1, "one"), line(2, "two", "stderr"), line(3, "three", "log", level="INFO")])
WELL = Batch(FIRST, 1, [end(4)])
BADLY = Batch(FIRST, 1, [end(4, "FAILURE", 1, "ValueError: boom")])
RETRIED = Batch(FIRST, 1, [end(4, "RETRY", 1, "later")])
AGAIN = Batch(SECOND, 2, [line(1, "again")])
WELL_AGAIN = Batch(SECOND, 2, [end(2)])


def test_a_success(log: Log) -> None:
    """The lines of all streams go to stdout; there is nothing to add."""
    reader = ScriptedReader([PRINTED, WELL])
    result = log(reader)
    assert (result.stdout, result.stderr, result.exit_code) == ("one\ntwo\nthree\n", "", 0)
    assert reader.closed


def test_a_failure(log: Log) -> None:
    """The exit code is the task's, and stderr tells why."""
    result = log(ScriptedReader([PRINTED, BADLY]))
    assert (result.stdout, result.stderr) == ("one\ntwo\nthree\n", "FAILURE: ValueError: boom\n")
    assert result.exit_code == 1


def test_a_killed_task(log: Log) -> None:
    assert log(ScriptedReader([PRINTED, Batch(FIRST, 1, [end(4, "LOST", 137, "killed")])])).exit_code == 137


def test_an_unknown_task(log: Log) -> None:
    result = log(ScriptedReader([]))
    assert (result.stdout, result.stderr, result.exit_code) == ("", "Error: nothing is known of a task id\n", 1)


def test_a_running_task(log: Log) -> None:
    """Without -f: what there is, and success."""
    result = log(ScriptedReader([PRINTED], [WELL]))
    assert (result.stdout, result.exit_code) == ("one\ntwo\nthree\n", 0)


def test_following(log: Log) -> None:
    """With -f: all that comes, unfinished lines as they grow, until the end."""
    unfinished = Partial(n=4, timestamp=AT, stream="stdout", line="fo")
    later = [Batch(FIRST, 1, [unfinished]), Batch(FIRST, 1, [line(4, "four"), end(5, "FAILURE", 1, "no")])]
    result = log(ScriptedReader([PRINTED], later), "-f")
    assert (result.stdout, result.stderr, result.exit_code) == ("one\ntwo\nthree\nfour\n", "FAILURE: no\n", 1)


def test_waiting_for_a_task(log: Log) -> None:
    """Who follows a task that has not started is told that nothing is wrong, unless it is the id."""
    result = log(ScriptedReader([], [PRINTED, WELL]), "-f")
    assert (result.stdout, result.stderr) == ("one\ntwo\nthree\n", "waiting for task id to start\n")
    assert result.exit_code == 0


def test_all_attempts_in_order(log: Log) -> None:
    result = log(ScriptedReader([PRINTED, RETRIED, AGAIN, WELL_AGAIN]))
    assert result.stdout == "one\ntwo\nthree\nagain\n"
    assert result.stderr == "--- attempt 1 ---\nRETRY: later\n--- attempt 2 ---\n"
    assert result.exit_code == 0


def test_a_retry_does_not_end_the_following(log: Log) -> None:
    """The second attempt is announced when it comes."""
    result = log(ScriptedReader([PRINTED], [RETRIED, AGAIN, WELL_AGAIN]), "-f")
    assert result.stdout == "one\ntwo\nthree\nagain\n"
    assert result.stderr == "RETRY: later\n--- attempt 2 ---\n"


def test_one_attempt(log: Log) -> None:
    reader = ScriptedReader([PRINTED, RETRIED, AGAIN, WELL_AGAIN])
    assert log(reader, "--attempt", "2").stdout == "again\n"
    absent = log(reader, "--attempt", "3")
    assert (absent.stderr, absent.exit_code) == ("Error: task id has no attempt 3; the last one is 2\n", 1)


def test_a_retried_attempt_waits_for_the_next(log: Log) -> None:
    """The task is not over, so it has not failed."""
    assert log(ScriptedReader([PRINTED, RETRIED])).exit_code == 0


def test_a_lost_task_that_was_delivered_again(log: Log) -> None:
    """What counts is the last attempt: one that runs, one that ended well, even one that printed nothing."""
    lost = Batch(FIRST, 1, [end(4, "LOST", 137, "killed")])
    assert log(ScriptedReader([PRINTED, lost, AGAIN])).exit_code == 0
    assert log(ScriptedReader([PRINTED, lost, AGAIN, WELL_AGAIN])).exit_code == 0
    known = [attempt(FIRST, "LOST", exit_code=137), attempt(SECOND, "SUCCESS", exit_code=0)]
    assert log(ScriptedReader([PRINTED, lost], attempts=known)).exit_code == 0
    assert log(ScriptedReader([PRINTED, lost], attempts=known), "--attempt", "1").exit_code == 137


def test_a_task_that_printed_nothing(log: Log) -> None:
    """It has no log, but an outcome."""
    result = log(ScriptedReader([], attempts=[attempt(FIRST, "FAILURE", exit_code=1, reason="ValueError: boom")]))
    assert (result.stdout, result.stderr, result.exit_code) == ("", "FAILURE: ValueError: boom\n", 1)
    assert log(ScriptedReader([], attempts=[attempt(FIRST, "SUCCESS", exit_code=0)])).exit_code == 0
    assert log(ScriptedReader([], attempts=[attempt(FIRST)])).exit_code == 0


def test_the_tail(log: Log) -> None:
    """The last lines, however many attempts they are of; the ends are not counted."""
    reader = ScriptedReader([PRINTED, RETRIED, AGAIN, WELL_AGAIN])
    result = log(reader, "--tail", "2")
    assert result.stdout == "three\nagain\n"
    assert result.stderr == "--- attempt 1 ---\nRETRY: later\n--- attempt 2 ---\n"
    assert log(reader, "--tail", "0").stdout == ""


def test_the_tail_of_what_is_selected(log: Log) -> None:
    """Two lines that match, not those of the last two lines that match."""
    reader = ScriptedReader([PRINTED, WELL])
    assert log(reader, "--tail", "2", "--grep", "^t").stdout == "two\nthree\n"
    assert log(reader, "--tail", "1", "--stream", "stdout").stdout == "one\n"


def test_the_tail_and_what_follows(log: Log) -> None:
    """What is there is cut; what comes is shown whole, each line once."""
    later = [Batch(FIRST, 1, [line(4, "four"), line(5, "five"), end(6)])]
    result = log(ScriptedReader([PRINTED], later), "--tail", "1", "-f")
    assert (result.stdout, result.exit_code) == ("three\nfour\nfive\n", 0)
    assert log(ScriptedReader([PRINTED], later), "--tail", "0", "-f").stdout == "four\nfive\n"


def test_the_tail_of_an_unfinished_long_line(log: Log) -> None:
    """A line of which only the first pieces are there is shown when it is whole, from its start."""
    pieces = [line(2, "aa", more=True), line(2, "bb", more=True, piece=1), line(2, "cc", piece=2)]
    now, later = Batch(FIRST, 1, [line(1, "one"), *pieces[:2]]), Batch(FIRST, 1, [*pieces[2:], end(3)])
    reader = ScriptedReader([now], [later])
    assert log(reader, "--tail", "5", "-f").stdout == "one\naabbcc\n"


def test_a_tail_of_a_log_that_is_over_does_not_wait(log: Log) -> None:
    """Nothing that comes later belongs to it."""
    result = log(ScriptedReader([PRINTED, WELL], [AGAIN]), "--tail", "1", "-f")
    assert result.stdout == "three\n"


def test_selections(log: Log) -> None:
    reader = ScriptedReader([PRINTED, BADLY])
    assert log(reader, "--stream", "stderr", "--stream", "log").stdout == "two\nthree\n"
    assert log(reader, "--level", "info").stdout == "three\n"
    assert log(reader, "--grep", "o$").stdout == "two\n"
    assert log(reader, "--since", "2027-01-01").stdout == ""
    assert log(reader, "--since", "2027-01-01").exit_code == 1


def test_what_is_no_line_goes_to_stderr(log: Log) -> None:
    """So that stdout is what the task printed; unless it is what was asked for."""
    stage = StageStart(n=4, timestamp=AT, stage=1, name="Compile")
    gap = Gap(n=9, timestamp=AT, skipped=5, first=5, last=9, reason="trim")
    reader = ScriptedReader([PRINTED, Batch(FIRST, 1, [stage, gap, line(10, "setup", "internal"), end(11)])])
    result = log(reader)
    assert result.stdout == "one\ntwo\nthree\n[5 messages skipped]\n"
    assert result.stderr == "Stage 1: Compile\nsetup\n"
    assert log(reader, "--stream", "internal").stdout == "Stage 1: Compile\n[5 messages skipped]\nsetup\n"


def test_notes_are_harmless(log: Log) -> None:
    """The reason of a failure is the task's text, too."""
    reader = ScriptedReader([Batch(FIRST, 1, [end(1, "FAILURE", 1, "a\x1b]52;c;AAAA\x07\nb")])])
    assert log(reader).stderr == "FAILURE: ab\n"


def test_json(log: Log) -> None:
    """All records go to stdout, one object each, with their attempt's number; unfinished lines do not."""
    reader = ScriptedReader([PRINTED, RETRIED], [AGAIN, WELL_AGAIN])
    result = log(reader, "--json", "-f")
    records = [json.loads(text) for text in result.stdout.splitlines()]
    assert [(record["attempt"], record["type"], record.get("line")) for record in records] == [
        (1, "log_line", "one"),
        (1, "log_line", "two"),
        (1, "log_line", "three"),
        (1, "log_line_end", None),
        (2, "log_line", "again"),
        (2, "log_line_end", None),
    ]
    assert {record["task_id"] for record in records} == {"id"}
    assert result.stderr == ""


def test_json_has_whole_lines(log: Log) -> None:
    pieces = [line(1, "aa", more=True), line(1, "bb", piece=1)]
    (only, _) = log(ScriptedReader([Batch(FIRST, 1, [*pieces, end(2)])]), "--json").stdout.splitlines()
    assert json.loads(only)["line"] == "aabb"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "soon"], "'soon' is not a duration such as 5m"),
        (["--grep", "("], "'(' is not a regular expression"),
        (["--json", "--raw"], "--json and --raw cannot be given together"),
        (["--tail", "-1"], "not in the range"),
        (["--attempt", "0"], "not in the range"),
        (["--stream", "both"], "'both' is not one of"),
    ],
)
def test_wrong_arguments(log: Log, arguments: list[str], message: str) -> None:
    result = log(ScriptedReader([]), *arguments)
    assert message in result.stderr
    assert result.exit_code == 2


def test_settings_that_cannot_be_used(log: Log) -> None:
    """One line that names the nearest setting."""
    result = log(ScriptedReader([]), conf={"livelog_maxlin": 1})
    assert result.stderr == "Error: livelog_maxlin is not a setting of celery-livelog; did you mean livelog_maxlen?\n"
    assert result.exit_code == 1


def test_a_log_that_cannot_be_read(log: Log) -> None:
    """One line and never a traceback; what could be read before is shown."""
    reader = ScriptedReader([PRINTED])
    reader.error = ConnectionError("Error 111 connecting to 127.0.0.1:6379.\nConnection refused.")
    result = log(reader)
    assert result.stdout == "one\ntwo\nthree\n"
    assert result.stderr == "Error: ConnectionError: Error 111 connecting to 127.0.0.1:6379. Connection refused.\n"
    assert result.exit_code == 1
    assert reader.closed


def test_ctrl_c(log: Log) -> None:
    """Quiet, and what a shell expects."""
    reader = ScriptedReader([PRINTED])
    reader.error = KeyboardInterrupt()
    result = log(reader, "-f")
    assert (result.stdout, result.stderr, result.exit_code) == ("one\ntwo\nthree\n", "", 130)
