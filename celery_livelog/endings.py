"""How an attempt ends: its state, exit code and reason in plain words. Pure; the one home of these words.

Three can tell it: the process that ran the task, while it can speak; the worker's main process, which kills tasks and
sees its children die; and the shipper, which finds a process gone.
"""

from __future__ import annotations

import re
import signal
from typing import Any

import msgspec

from celery_livelog.errors import said

#: Characters of an exception that go to the shipper, which shows the first 500 of them after it has hidden secrets.
_REASON_CHARACTERS = 4096
_WELL = frozenset({"SUCCESS", "IGNORED"})
#: The state of an attempt that was unwound from outside. Who did that, the main process may know.
ABORTED = "ABORTED"
#: The state of an attempt of which nobody can say how it ended.
LOST = "LOST"
#: How billiard tells of a process that is gone, see `billiard.common.human_status`.
_LOST = re.compile(r"(?P<what>signal|exitcode) (?P<number>\d+)")
_NUMBER = re.compile(r"\d+")
_AGAIN = "; the task is to be delivered again"


class Ending(msgspec.Struct, frozen=True):
    """`state` is Celery's, or ABORTED, or LOST. `exit_code`: 0 success, 1 failure, 128 + signal when killed."""

    state: str
    exit_code: int
    reason: str = ""


class Word(msgspec.Struct, omit_defaults=True):
    """What a main process knows: it has ended a task, as `ending`, or the process `pid`, or that of a task, is gone.

    `signal` is what killed that process; 0 when it left by itself, with `status`.
    """

    task_id: str = ""
    pid: int = 0
    ending: Ending | None = None
    signal: int = 0
    status: int = 0


def of_outcome(state: str, outcome: Any, reason: str) -> Ending:
    """The end of a task that Celery's tracer has seen through.

    :param outcome: what the task returned, or raised to Celery.
    :param reason: why it failed or is tried again, as far as its signals have told.
    """
    if state == "REJECTED":
        said = str(getattr(outcome, "reason", None) or "rejected by the task")
        reason = said + (_AGAIN if getattr(outcome, "requeue", False) else "")
    elif state == "IGNORED":
        reason = str(outcome) if isinstance(outcome, Exception) else ""
    return Ending(state, 0 if state in _WELL else 1, _text(reason))


def of_failure(error: BaseException, soft_limit: float | None) -> str:
    """Why a task failed: its exception, after plain words where it is the worker's own."""
    text = said(error)
    if type(error).__name__ == "SoftTimeLimitExceeded":
        limit = f" of {soft_limit:g} s" if soft_limit else ""
        return f"soft time limit{limit} exceeded: {text}"
    return text


def of_unwinding(error: BaseException | None) -> Ending:
    """The end of a task that something else than an exception of its own has unwound.

    A pool's child turns a signal that ends it into ``SystemExit(-(256 - signal))``, see `billiard.common`.
    """
    code = error.code if isinstance(error, SystemExit) else None
    if isinstance(code, int) and -256 < code < 0:
        return of_signal(256 + code, ABORTED, "terminated by")
    if isinstance(error, SystemExit):
        return Ending("FAILURE", 1, _text(f"the task left its process: sys.exit({'' if code is None else repr(code)})"))
    return Ending(ABORTED, 1, "" if error is None else _text(said(error).rstrip(": ")))


def of_signal(number: int, state: str, what: str) -> Ending:
    """The end by a signal: `what` it did, then its number and name."""
    try:
        name = f" ({signal.Signals(number).name})"
    except ValueError:
        name = ""
    return Ending(state, 128 + number, f"{what} signal {number}{name}")


def of_revocation(*, expired: bool) -> Ending:
    """The end of a task that no process was given to run."""
    return Ending("REVOKED", 1, "expired before it began" if expired else "revoked before it began")


def word_of_failure(task_id: str, error: BaseException) -> Word | None:
    """What a main process knows of a task that failed there; None when the task's process knows better."""
    if type(error).__name__ == "TimeLimitExceeded":
        limit = f" of {error.args[0]} s" if error.args else ""
        return Word(task_id=task_id, ending=Ending("FAILURE", 137, f"hard time limit{limit} exceeded"))
    found = _LOST.search(str(error)) if type(error).__name__ == "WorkerLostError" else None
    if found is None:
        return None
    number = int(found["number"])
    return Word(task_id=task_id, signal=number) if found["what"] == "signal" else Word(task_id=task_id, status=number)


def word_of_retry(task_id: str, reason: Any) -> Word:
    """What a main process has done to a task that is to be tried again; without a reason, it leaves itself."""
    if reason is None:
        return Word(task_id=task_id, ending=Ending(ABORTED, 143, "the worker was shut down before the task was done"))
    return Word(task_id=task_id, ending=Ending("RETRY", 1, _text(str(reason))))


def word_of_termination(task_id: str, signum: Any) -> Word:
    """What a main process has done to a task that was revoked while it ran; `signum` as Celery's signal has it."""
    found = _NUMBER.search(str(int(signum) if isinstance(signum, int) else signum))
    number = int(found[0]) if found else int(signal.SIGTERM)
    return Word(task_id=task_id, ending=of_signal(number, "REVOKED", "revoked: terminated by"))


def of_exit(signal_number: int, status: int, memory: int, *, requeued: bool) -> Ending:
    """The end of a task whose process is gone.

    :param signal_number: what killed it; 0 when it left by itself, with `status`.
    :param memory: bytes of memory that it had when it was last seen; 0 when that is not known.
    :param requeued: whether Celery then gives the task to the broker again.
    """
    state = "REJECTED" if requeued else "FAILURE"
    again = _AGAIN if requeued else ""
    if not signal_number:
        return Ending(state, 1, f"the process left with exit code {status}{again}")
    ending = of_signal(signal_number, state, "killed by")
    if signal_number == signal.SIGKILL:
        seen = f", it had {memory / 2**20:.0f} MiB when last seen" if memory else ""
        again = f": likely out of memory{seen}{again}"
    return Ending(state, ending.exit_code, ending.reason + again)


def of_program(status: int, memory: int) -> Ending:
    """The end of a program, by its exit status as `os.waitstatus_to_exitcode` gives it.

    :param memory: the most bytes that it had.
    """
    if status < 0:
        return of_exit(-status, 0, memory, requeued=False)
    return Ending("FAILURE", status, f"the program left with exit code {status}") if status else Ending("SUCCESS", 0)


def of_no_program(exit_code: int, why: str) -> Ending:
    """The end of a program that could not be started: 127 when it is not there, 126 when it cannot be executed."""
    return Ending("FAILURE", exit_code, _text(why))


def word_of_orphan(task_id: str) -> Word:
    """What holds of a program when the process is killed that waits for its end."""
    reason = "celery-livelog exec was killed: all that the program printed is here, but nobody saw how it ended"
    return Word(task_id=task_id, ending=Ending(LOST, 137, reason))


def of_silence(pid: int, *, worker_gone: bool) -> Ending:
    """The end of a task whose process is gone, when nobody has said how."""
    if worker_gone:
        return Ending(LOST, 137, f"worker lost: process {pid} and its worker were killed, or their machine was")
    return Ending(LOST, 1, f"the process that ran the task, {pid}, ended without saying how")


def of_lapse() -> Ending:
    """The end of a task whose worker nothing is heard of."""
    return Ending(LOST, 137, "worker lost: its shipper has not been heard of for over a minute")


def merged(by: Ending | None, why: Ending) -> Ending:
    """Why the main process has ended a task, with the exit code of what it was ended by, as far as that is known."""
    return Ending(why.state, by.exit_code if by is not None and by.exit_code > 1 else why.exit_code, why.reason)


def _text(reason: str) -> str:
    return reason.encode("utf-8", "backslashreplace").decode()[:_REASON_CHARACTERS]
