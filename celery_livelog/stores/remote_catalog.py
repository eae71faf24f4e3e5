"""The catalog of a relay's, as the catalog sink writes it."""

from __future__ import annotations

from collections.abc import Sequence

from celery_livelog.attempts import Attempt
from celery_livelog.errors import RelayRefusal, complain
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.stores.link import Link
from celery_livelog.stores.requests import LONGEST_BODY, PutRows, Rows, encode

#: Seconds that an answer may take.
_TIMEOUT = 20.0


class RemoteCatalog:
    """Does what `Catalog` does for who writes."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def write(self, attempts: Sequence[Attempt], runs: Sequence[RunEntry] = (), stages: Sequence[Stage] = ()) -> None:
        """Store a batch; rows that are not this worker's to write are left out, which is told."""
        body = encode(Rows(attempts=list(attempts), runs=list(runs), stages=list(stages)))
        if len(body) > LONGEST_BODY and len(attempts) + len(runs) + len(stages) > 1:
            for row in attempts:
                self.write([row])
            for run in runs:
                self.write([], [run])
            for stage in stages:
                self.write([], [], [stage])
            return
        refused = self._link.ask(PutRows(), body, timeout=_TIMEOUT)
        if refused:
            complain("the catalog lacks what this worker tells of some tasks", RelayRefusal(refused))

    def close(self) -> None:
        """The link is others' too."""
