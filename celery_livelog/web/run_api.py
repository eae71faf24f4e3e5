"""The part of the HTTP API that is about runs."""

from __future__ import annotations

import re

from msgspec.structs import asdict

from celery_livelog.run_answers import LINES, MOST_RUNS, RUNS, run_description, run_log
from celery_livelog.run_reader import RunReader
from celery_livelog.web.api import ApiHandler, Refused

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?\+00:00")


class _RunHandler(ApiHandler):
    """What all handlers of runs share: they see one scope, and what is outside of it does not exist."""

    def scope(self) -> tuple[str | None, str | None]:
        """The account, and site, whose runs the viewer may see; None for all."""
        return None, None

    @property
    def runs(self) -> RunReader:
        """The runs that the viewer may see."""
        return self.reader.runs.within(*self.scope())

    def number(self, name: str, default: int, what: str) -> int:
        """A number of the query.

        :raises Refused: when it is none.
        """
        text = self.get_query_argument(name, str(default))
        if not re.fullmatch(r"[0-9]{1,6}", text):
            raise Refused(400, f"{name} is {text[:60]!r}; expected a number of {what}")
        return int(text)


class RunsApi(_RunHandler):
    """Runs, the newest first."""

    async def get(self) -> None:
        limit = self.number("limit", RUNS, "runs")
        account, site = (self.get_query_argument(name, None, strip=False) for name in ("account", "site"))
        found = await self.runs.recent(min(limit, MOST_RUNS), before=self._before(), account=account, site=site)
        self.finish({"runs": list(map(asdict, found))})

    def _before(self) -> str | None:
        before = self.get_query_argument("before", None)
        if before is None:
            return None
        before = before.replace(" ", "+")  # which is what an unquoted + in a URL says
        if not _TIME.fullmatch(before):
            raise Refused(400, f"before is {before[:60]!r}; expected the `started` of a run")
        return before


class RunApi(_RunHandler):
    """One run: how it stands, its tasks, its stages."""

    async def get(self, run_id: str) -> None:
        description = await run_description(self.runs, run_id)
        if description is None:
            raise Refused(404, "not found")
        self.finish(description)


class RunLogsApi(_RunHandler):
    """The last lines of a run's log, of all its tasks, as text."""

    async def get(self, run_id: str) -> None:
        text = await run_log(self.runs, run_id, self.number("lines", LINES, "lines"))
        if text is None:
            raise Refused(404, "not found")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(text.encode(errors="backslashreplace"))
