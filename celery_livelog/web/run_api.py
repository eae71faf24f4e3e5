"""The part of the HTTP API that is about runs, as Tornado handlers."""

from __future__ import annotations

from celery_livelog.web import answers
from celery_livelog.web.api import ApiHandler, Streaming


class RunsApi(ApiHandler):
    """Runs, the newest first."""

    async def get(self) -> None:
        self.finish(await self.answer(answers.runs(self.reader, self.arguments)))


class RunApi(ApiHandler):
    """One run: how it stands, its tasks, its stages."""

    async def get(self, run_id: str) -> None:
        self.finish(await self.answer(answers.run(self.reader, run_id)))


class RunLogsApi(Streaming):
    """The last lines of a run's log, of all its tasks, or all that they print while it goes on."""

    async def get(self, run_id: str) -> None:
        await self.while_connected(self.send(answers.run_output(self.reader, run_id, self.arguments)))
