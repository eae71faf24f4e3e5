"""Lines of one attempt among which there are markers: what each line is, what it begins and ends. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from celery_livelog.encodings import encoded
from celery_livelog.redact import HIDDEN
from celery_livelog.shipper.markers import Marker, Markers
from celery_livelog.shipper.stages import Stages


class Piece(NamedTuple):
    """A line, or a piece of an overlong one, with its stage and what a marker says of its level."""

    text: str
    more: bool
    stage: int | None
    level: str | None


class MarkedState(msgspec.Struct, array_like=True):
    """Where it stands, so that another shipper can go on from there."""

    stopped: str = ""
    unfinished: list[tuple[tuple[int, int], bool]] = []


class MarkedLines:
    """Finds the markers in lines and keeps the attempt's stages accordingly."""

    def __init__(self, markers: Markers, stages: Stages, state: MarkedState | None = None) -> None:
        self._markers = markers
        self._stages = stages
        #: The places of overlong lines that are not over, and whether they are secret.
        self._unfinished: dict[tuple[int, int], bool] = dict(state.unfinished) if state else {}
        markers.stopped = state.stopped if state else ""

    def state(self) -> MarkedState:
        """What the next one needs."""
        return MarkedState(self._markers.stopped, list(self._unfinished.items()))

    def feed(
        self, place: tuple[int, int], lines: list[tuple[str, bool]], given: int, time: int
    ) -> Iterator[Piece | dict[str, Any] | bytes]:
        """What becomes of lines: secrets that are to be hidden from there on, events of stages, and the lines.

        :param given: the stage of the task's code in which they were written.
        """
        for line, more in lines:
            text, markers = self._look(place, line, more)
            if not markers:
                yield Piece(text, more, self._stages.of(given), None)
            else:
                yield from self._act(text, more, markers, given, time)

    def preview(self, line: str) -> str:
        """An unfinished line as it may be shown."""
        return self._markers.preview(line)

    def _look(self, place: tuple[int, int], line: str, more: bool) -> tuple[str, list[Marker]]:
        secret = self._unfinished.pop(place, None)
        if secret is None:
            text, markers = self._markers.find(line)
        else:
            text, markers = HIDDEN if secret else line, []
        if more:
            self._unfinished[place] = bool(secret) or any(marker.kind == "mask" for marker in markers)
        return text, markers

    def _act(
        self, text: str, more: bool, markers: list[Marker], given: int, time: int
    ) -> Iterator[Piece | dict[str, Any] | bytes]:
        """A line that begins a stage belongs to it; one that only ends some belongs to the innermost of these."""
        level: str | None = None
        if markers[-1].kind == "end":
            yield Piece(text, more, self._stages.of(given), None)
        for marker in markers:
            if marker.kind == "begin":
                yield from self._stages.begin(given, marker.text, marker.key, time)
            elif marker.kind == "end":
                yield from self._stages.end(given, marker.key, time)
            elif marker.kind == "mask":
                yield from map(encoded, {marker.text, *marker.text.splitlines()})
            else:
                level = marker.key
                if level == "ERROR":
                    self._stages.failed(given, marker.text)
        if markers[-1].kind != "end":
            yield Piece(text, more, self._stages.of(given), level)
