"""The part of the HTTP API that is about runs, as Tornado handlers."""

from __future__ import annotations

from celery_livelog.web import answers
from celery_livelog.web.api import ApiHandler


class RunsApi(ApiHandler):
    """Runs, the newest first."""

    async def get(self) -> None:
        self.finish(await self.answer(answers.runs(self.reader, self.arguments)))


class RunApi(ApiHandler):
    """One run: how it stands, its tasks, its stages."""

    async def get(self, run_id: str) -> None:
        self.finish(await self.answer(answers.run(self.reader, run_id)))


class RunLogsApi(ApiHandler):
    """The last lines of a run's log, of all its tasks, as text."""

    async def get(self, run_id: str) -> None:
        answer = await self.answer(answers.run_logs(self.reader, run_id, self.arguments))
        self.set_header("Content-Type", answer.content_type)
        self.finish(answer.body)
