"""What a writer from elsewhere may call its own: its tasks, its attempts, its leases. Pure.

Rules:
- an attempt's id is 16 digits that the writer gives and 16 that come from who the writer is, so nobody can name
  another's attempt, and none of a worker that writes to the stores itself;
- what a writer with an account writes is of that account, whatever it says; one that has the relay's key may say it;
- two tokens with one name and account are one writer, such as a token and the one that takes its place.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from celery_livelog.access.tokens import Writer
from celery_livelog.attempts import Attempt
from celery_livelog.runs import RunEntry, Stage

_GIVEN = re.compile(r"[0-9a-f]{16}")
#: Characters of a task's id and of a lease's name.
LONGEST_ID = 200


class NotYours(Exception):
    """Raised when a writer may not write what it wants to. Its text is for that writer."""


def identity(writer: Writer) -> str:
    """What tells writers apart: name and account, or what an unnamed one may write."""
    who = [writer.name] if writer.name else ["", writer.prefix, *sorted(writer.ids)]
    return _digest(writer.account, *who)


def may_write(writer: Writer, task_id: str, account: str = "") -> bool:
    """Whether a task is a writer's to write; one that says nothing of an account is of the writer's."""
    return 0 < len(task_id) <= LONGEST_ID and writer.may_write(task_id, account or writer.account)


def check(writer: Writer, task_id: str, account: str = "") -> None:
    """Have a writer write a task.

    :raises NotYours: when it may not.
    """
    if not may_write(writer, task_id, account):
        of = f" of account {account[:60]!r}" if account else ""
        raise NotYours(f"the token does not cover task {task_id[:60]!r}{of}: ask for one that does")


def own_id(writer: Writer, task_id: str, given: str) -> str:
    """The id of an attempt to which its writer gave 16 hexadecimal digits.

    :raises NotYours: when it gave anything else.
    """
    if not _GIVEN.fullmatch(given):
        raise NotYours(f"{given[:60]!r} is no id of an attempt; expected 16 hexadecimal digits, in lower case")
    return given + _digest(identity(writer), task_id, given)


def is_own(writer: Writer, task_id: str, attempt: str) -> bool:
    """Whether an attempt is a writer's."""
    given = attempt[:16]
    return bool(_GIVEN.fullmatch(given)) and own_id(writer, task_id, given) == attempt


def named(text: str) -> str:
    """The 16 digits for an attempt that its writer calls by any text."""
    return _digest("attempt", text)


def own_attempt(writer: Writer, attempt: Attempt, archive: str) -> Attempt:
    """An attempt as the stores shall know it.

    :param archive: the place of its log, if it is archived.
    :raises NotYours: when it is not the writer's.
    """
    check(writer, attempt.task_id, attempt.account)
    return msgspec.structs.replace(
        attempt,
        attempt=own_id(writer, attempt.task_id, attempt.attempt),
        account=_account(writer, attempt.account),
        lease=own_lease(writer, attempt.lease),
        archive=archive if attempt.archive else "",
    )


def own_stage(writer: Writer, stage: Stage) -> Stage:
    """The same of a stage."""
    check(writer, stage.task_id, stage.account)
    attempt = own_id(writer, stage.task_id, stage.attempt)
    return msgspec.structs.replace(stage, attempt=attempt, account=_account(writer, stage.account))


def own_run(writer: Writer, run: RunEntry) -> RunEntry:
    """The same of a run. Without an account of its own, a writer's runs are named as its tasks are."""
    check(writer, run.run_id, run.account)
    return msgspec.structs.replace(run, account=_account(writer, run.account))


def own_lease(writer: Writer, name: str) -> str:
    """The name under which a writer's worker says that it lives."""
    return f"{identity(writer)}-{name[:LONGEST_ID]}" if name else ""


def _account(writer: Writer, given: str) -> str:
    return given if writer.everything else writer.account


def _digest(*texts: str) -> str:
    data = b"\0".join(text.encode("utf-8", "surrogatepass") for text in texts)
    return hashlib.sha256(data).hexdigest()[:16]
