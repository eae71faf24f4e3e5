"""What is secret in one attempt is hidden here: in lines, events, exceptions and what is known of the attempt itself.

Pure. The only way of an attempt's text to the sinks; numbers, counts and times are not touched.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from celery_livelog.attempts import Attempt
from celery_livelog.redact import Redactor
from celery_livelog.runs import Run
from celery_livelog.shipper.payloads import hide_in_dict, hide_in_event

#: What is not text of users: ids, which everything is found by, and times and states, which are ours.
_OURS = frozenset(
    {
        *("attempt", "task_id", "root_id", "parent_id", "group_id", "run_id", "account", "site", "lease"),
        *("type", "started", "ended", "state", "archive"),
    }
)
#: What a bad pattern does not hide either: it is known before anything is printed.
_NAMES = frozenset({"name", "worker", "queue"})
#: Combinations of secrets and patterns that are kept prepared: one for each task that has patterns of its own.
_PREPARED = 64


class RedactionState(msgspec.Struct, array_like=True):
    """What is secret in an attempt beyond what its worker knows, and what waits of its overlong lines."""

    secrets: list[bytes]
    patterns: list[str] | None
    waiting: list[tuple[tuple[int, int], str]]


class Redactions:
    """Makes the redaction of each attempt. What many attempts have in common is prepared once.

    :param redactor: what is secret in all attempts of the worker.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._prepared: dict[Hashable, Redactor] = {}

    def of(self, secrets: Sequence[bytes], patterns: Sequence[str] | None) -> Redaction:
        """For an attempt in which these are secret as well.

        :param patterns: those of its task; None when one of them is bad, which hides everything.
        """
        said = RedactionState(list(secrets), None if patterns is None else list(patterns), [])
        if not secrets and patterns is not None and not patterns:
            return Redaction(self._redactor, said=said)
        key = tuple(secrets), None if patterns is None else tuple(patterns)
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self._redactor.copy()
            prepared.add(secrets, patterns or ())
            if patterns is None:
                prepared.hide_all()
            if len(self._prepared) >= _PREPARED:
                self._prepared.clear()
            self._prepared[key] = prepared
        return Redaction(prepared, self._redactor, said)

    def resume(self, state: RedactionState) -> Redaction:
        """For an attempt in the middle of which a shipper before this one stood."""
        redaction = self.of(state.secrets, state.patterns)
        redaction.waiting.update(state.waiting)
        return redaction


class Redaction:
    """Hides secrets in one attempt.

    :param redactor: what is secret in it; not changed.
    :param of_worker: what is secret in all attempts.
    :param said: what was said to be secret in this one.
    """

    def __init__(
        self, redactor: Redactor, of_worker: Redactor | None = None, said: RedactionState | None = None
    ) -> None:
        self._given = self._redactor = redactor
        self._of_worker = redactor if of_worker is None else of_worker
        self._active = bool(redactor)
        self._said = said or RedactionState([], [], [])
        #: What waits, of each stream's overlong line, for its next piece.
        self.waiting: dict[tuple[int, int], str] = {}

    def hide(self, secret: bytes) -> None:
        """Hide this as well, from now on."""
        if secret in self._said.secrets:
            return
        if self._redactor is self._given:
            self._redactor = self._redactor.copy()
        self._redactor.add([secret])
        self._said.secrets.append(secret)
        self._active = bool(self._redactor)

    def state(self) -> RedactionState:
        """What `Redactions.resume` needs."""
        return RedactionState(self._said.secrets, self._said.patterns, list(self.waiting.items()))

    def text(self, text: str) -> str:
        """A text on its own."""
        return self._redactor(text)

    def reason(self, reason: str, limit: int) -> str:
        """The first `limit` characters of an exception's text; one with more may have been cut before."""
        return (self._redactor.cut_off(reason) if len(reason) >= limit else self.text(reason))[:limit]

    def attempt(self, attempt: Attempt) -> None:
        """Hide what is secret in all that is known of an attempt."""
        if not self._active:
            return
        for name in Attempt.__struct_fields__:
            value = getattr(attempt, name)
            if isinstance(value, str) and name not in _OURS:
                bad_pattern = self._redactor.hides_all and name in _NAMES
                setattr(attempt, name, (self._of_worker if bad_pattern else self._redactor)(value))

    def run(self, run: Run) -> Run:
        """What is known of a run; ids and scopes, by which it is found, are not touched."""
        if not self._active:
            return run
        return replace(run, name=self.text(run.name), fields=hide_in_dict(self._redactor, run.fields))

    def lines(self, place: tuple[int, int], lines: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
        """Lines of a stream. The end of a piece of an overlong line moves to the next piece: it is looked at with that.

        :param place: names the stream: its number and channel.
        """
        if not self._active:
            return lines
        found = []
        for line, more in lines:
            if self.waiting:
                line = self.waiting.pop(place, "") + line
            if more:
                line, self.waiting[place] = self._redactor.beginning(line)
            else:
                line = self._redactor(line)
            found.append((line, more))
        return found

    def preview(self, place: tuple[int, int], line: str) -> str:
        """An unfinished line; an end of it that may become a secret is left out."""
        return self._redactor.unfinished(self.waiting.get(place, "") + line)

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """A stage event or trace, with all keys and values in its data."""
        return hide_in_event(self._redactor, event, _OURS) if self._active else event

    def data(self, data: dict[str, Any]) -> dict[str, Any]:
        """Key-values of any kind."""
        return hide_in_dict(self._redactor, data) if self._active else data
