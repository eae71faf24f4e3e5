"""The runs of users who are here, watched in the background, so that no request waits to learn of them.

What a request is told is at most some seconds old. While the catalog or Redis is away, it is what was last known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from celery_livelog.contrib.django.background import Background
from celery_livelog.errors import LivelogError, complain
from celery_livelog.permissions import OWNER, Viewer
from celery_livelog.reader.door import reader_for
from celery_livelog.runs import RunView, Stage

#: A run's account, site and id.
RunKey = tuple[str, str, str]

#: How long after its end a run is still told of.
REMEMBERED = timedelta(hours=1)
#: Runs that are looked through, the newest ones.
_RUNS = 500
#: Seconds between two looks: while there are requests, and while there are none.
_SOON, _LATER = 1.0, 10.0
#: Seconds after a request for which there is a next one to be expected, and after which nobody is here any more.
_ACTIVE, _HERE = 30.0, 3600.0


@dataclass(frozen=True, slots=True)
class Flight:
    """A run that is under way, or was until lately, and its stages in order of start."""

    run: RunView
    stages: tuple[Stage, ...]


class Flights:
    """The runs of users, as last seen."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._here: dict[str, tuple[float, Viewer]] = {}
        self._known: dict[str, tuple[Flight, ...]] = {}
        self._watching = False

    @property
    def ruled(self) -> bool:
        """Whether the site has a rule, which has to know who the users are."""
        return bool(self._background.reader.rule)

    def of(self, owners: Iterable[str], viewer: Viewer) -> tuple[Flight, ...]:
        """The runs that began with one of these as owner; asks nobody and waits for nothing.

        :param viewer: whom these stand for.
        """
        self._here.update(dict.fromkeys(owners, (time.monotonic(), viewer)))
        if not self._watching:
            self._watching = True
            self._background.start(self._watch())
        return tuple(flight for owner in owners for flight in self._known.get(owner, ()))

    async def _watch(self) -> None:
        try:
            while self._forget_who_left():
                try:
                    self._known = await self._look()
                except LivelogError as error:
                    complain("runs cannot be watched", error)
                idle = time.monotonic() - max((at for at, _ in self._here.values()), default=0)
                await asyncio.sleep(_SOON if idle < _ACTIVE else _LATER)
        finally:
            self._watching = False

    def _forget_who_left(self) -> bool:
        since = time.monotonic() - _HERE
        for owner, (at, _) in list(self._here.items()):
            if at < since:
                del self._here[owner]
        return bool(self._here)

    async def _look(self) -> dict[str, tuple[Flight, ...]]:
        since = (datetime.now(timezone.utc) - REMEMBERED).isoformat()
        found: dict[str, tuple[Flight, ...]] = {}
        reader = self._background.reader
        # One look at all runs for all users. What they are told of each, the door gives.
        for run in await reader.runs.recent(_RUNS):
            owner = run.fields.get(OWNER, "")
            if owner in self._here and (run.state == "RUNNING" or run.ended > since):
                runs = reader_for(reader, self._here[owner][1]).runs
                stages = await runs.within(run.account, run.site).stages(run.run_id)
                found[owner] = (Flight(run, tuple(stages)), *found.get(owner, ()))  # the oldest first
        return found
