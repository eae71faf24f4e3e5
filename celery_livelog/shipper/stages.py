"""The stages of one attempt: which are open, which numbers they have, which lines are theirs. Pure.

There are those that the task's code begins, which come with numbers of their own from its process, and those that
markers in its output make. All are numbered in the order in which they begin.
"""

from __future__ import annotations

from typing import Any

import msgspec

from celery_livelog.endings import Ending


class Marked(msgspec.Struct, array_like=True):
    """An open stage that a marker has made. `started` is in ns; `error` is what an error marker said in it."""

    number: int
    name: str
    key: str
    started: int
    error: str = ""


class StagesState(msgspec.Struct, array_like=True):
    """Where they stand, so that another shipper can go on from there."""

    #: Numbers as the task's process gives them.
    opened: list[int] = []
    #: The highest number that was given.
    last: int = 0
    #: By their numbers from the task's process; only kept where markers are looked for.
    numbers: dict[int, int] = {}
    #: By the stage of the task's code in which the markers were printed; 0 for none. The innermost one comes last.
    marked: dict[int, list[Marked]] = {}


class Stages:
    """See above.

    :param marked: whether markers make stages, too.
    """

    def __init__(self, *, marked: bool = False, state: StagesState | None = None) -> None:
        self._marked = marked
        self.state = state or StagesState()

    @property
    def latest(self) -> int:
        """The stage of the task's code that was begun last and is open: subprocesses do not say which is theirs."""
        return self.state.opened[-1] if self.state.opened else 0

    def number(self, given: int) -> int:
        """The number of a stage of the task's code."""
        if not self._marked:
            return given
        if given not in self.state.numbers:
            self.state.last += 1
            self.state.numbers[given] = self.state.last
        return self.state.numbers[given]

    def of(self, given: int) -> int | None:
        """The number of the stage of a line that was written in a stage of the task's code, or in none."""
        inner = self.state.marked.get(given)
        if inner:
            return inner[-1].number
        return self.number(given) if given else None

    def follow(self, event: dict[str, Any], time: int) -> list[dict[str, Any]]:
        """Follow the task's code from stage to stage; give the ends of stages that end with one of these.

        :param event: gets the number that its stage has here.
        :raises KeyError: when it is no event.
        """
        given, kind = event.get("stage"), event["type"]
        if not isinstance(given, int):
            return []
        event["stage"] = self.number(given)
        if kind == "stage_start":
            self.state.opened.append(given)
        if kind not in ("stage_complete", "stage_error"):
            return []
        if given in self.state.opened:
            self.state.opened.remove(given)
        return self._close(given, 0, time)

    def begin(self, given: int, name: str, key: str, time: int) -> list[dict[str, Any]]:
        """A marker begins a stage; give what that ends and begins."""
        events = self.end(given, key, time)
        self.state.last += 1
        begun = Marked(self.state.last, name, key, time)
        self.state.marked.setdefault(given, []).append(begun)
        return [*events, {"type": "stage_start", "stage": begun.number, "name": name}]

    def end(self, given: int, key: str, time: int) -> list[dict[str, Any]]:
        """A marker ends the innermost stage of that key, and those in it."""
        inner = self.state.marked.get(given, [])
        at = next((at for at in reversed(range(len(inner))) if inner[at].key == key), len(inner))
        return self._close(given, at, time)

    def failed(self, given: int, error: str) -> None:
        """A marker says that something has failed in the innermost stage."""
        inner = self.state.marked.get(given)
        if inner and not inner[-1].error:
            inner[-1].error = error or "error"

    def finish(self, ending: Ending, time: int) -> list[dict[str, Any]]:
        """The attempt ends. What a killed one has left open stays so, like the stages of its code."""
        if ending.exit_code not in (0, 1):
            return []
        if ending.exit_code:
            for given in self.state.marked:
                self.failed(given, ending.reason or ending.state)
        return [event for given in sorted(self.state.marked, reverse=True) for event in self._close(given, 0, time)]

    def _close(self, given: int, at: int, time: int) -> list[dict[str, Any]]:
        inner = self.state.marked.get(given, [])
        closed = inner[at:]
        del inner[at:]
        if not inner:
            self.state.marked.pop(given, None)
        return [_ended(stage, time) for stage in reversed(closed)]


def _ended(stage: Marked, time: int) -> dict[str, Any]:
    event = {"stage": stage.number, "name": stage.name, "elapsed": max(0, time - stage.started) // 1000 / 1e6}
    if stage.error:
        return {"type": "stage_error", **event, "error": stage.error}
    return {"type": "stage_complete", **event}
