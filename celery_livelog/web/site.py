"""All that the relay and the ASGI app serve, without a server: requests in, answers and sessions out.

Rules:
- whoever serves this only carries bytes; who may ask, what is answered and how it is refused is told here, once;
- what does not exist and what may not be seen get the same answer;
- every socket, and every request but those of `open`, holds a place among the caps as long as it lasts.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from urllib.parse import unquote

from celery_livelog.access.tokens import Writer
from celery_livelog.errors import TokenError
from celery_livelog.permissions import Viewer
from celery_livelog.reader import Reader
from celery_livelog.reader.door import reader_for
from celery_livelog.settings import Settings
from celery_livelog.viewer import ViewerSession
from celery_livelog.web import files, pages, progress_file, routes
from celery_livelog.web.answering import Answer, answered
from celery_livelog.web.answers import Whole
from celery_livelog.web.counts import Counts
from celery_livelog.web.gate import Gate
from celery_livelog.web.gate_caps import Caps, Limits, Place
from celery_livelog.web.gate_pace import Pace
from celery_livelog.web.health import Health
from celery_livelog.web.log_query import asked
from celery_livelog.web.refusal import Refusal, unauthorized
from celery_livelog.web.request import Request
from celery_livelog.web.response_headers import preflight, with_headers
from celery_livelog.web.sessions import Close, Limited, Refused, Send, Session, Writers

_Opens = Callable[[Request, Place, Send, Close], Awaitable[Session]]
#: Bytes of a message from a viewer, at most, and from a writer, whose session has a limit of its own.
_LONGEST, _LONGEST_WRITTEN = 64 * 1024, 1 << 20
#: Refusals of those who may not be who they say they are.
_GUESSES = (401, 403)
_PROGRESS = re.compile("/run/([^/]+)/progress.jsonl")


class Site:
    """Serves what `reader` holds to those whom `gate` lets in.

    :param writers: what takes logs from elsewhere, if that is done here.
    """

    def __init__(
        self, settings: Settings, reader: Reader, gate: Gate, limits: Limits, writers: Writers | None = None
    ) -> None:
        self._settings = settings
        self._writers = writers
        self._reader = reader
        self._gate = gate
        self._caps = Caps(limits)
        self._pace = Pace()
        self.counts = Counts()
        self._sockets: dict[str, _Opens] = {"/ws": self._viewing}
        if writers is not None:
            self._sockets["/ingest"] = self._writing
        #: What is answered to whoever asks and however many ask, by path.
        self.open: dict[str, Callable[[Request], Awaitable[Answer]]] = {"/healthz": Health(reader).answer}

    @asynccontextmanager
    async def answering(self, request: Request) -> AsyncIterator[Answer]:
        """The answer to a request, which holds a place until it is sent. Refusals are answers, too."""
        request = self._gate.located(request)
        place: Place | None = None
        try:
            try:
                if request.path in self.open:
                    answer = await self.open[request.path](request)
                else:
                    place = self._caps.take(request.address)
                    answer = await answered(self._answer(request, place))
            except Refusal as refusal:
                answer = self._refusal(refusal)
                await self._take_time(refusal, request)
            self.counts.answers[answer.status] += 1
            yield with_headers(answer, request, self._gate.origins)
        finally:
            if place is not None:
                place.release()

    @property
    def sockets(self) -> Collection[str]:
        """The paths of WebSockets."""
        return self._sockets

    async def session(self, request: Request, send: Send, close: Close) -> Session:
        """The session of a WebSocket that was accepted, also of one that may not have been."""
        request = self._gate.located(request)
        with ExitStack() as unless_opened:
            try:
                place = self._caps.take(request.address)
                unless_opened.callback(place.release)
                self._gate.check_origin(request)
                session = await self._sockets[request.path](request, place, send, close)
            except Refusal as refusal:
                self.counts.refusals[refusal.code] += 1
                await self._take_time(refusal, request)
                return Refused(refusal, send, close)
            unless_opened.pop_all()  # its place is the session's
            return session

    async def _answer(self, request: Request, place: Place) -> Answer:
        self._gate.check_origin(request)
        if request.method == "OPTIONS":
            return preflight()
        if request.method != "GET":
            raise Refusal(405, "expected GET", {"Allow": "GET, OPTIONS"})
        if request.path.startswith("/static/"):
            return files.answer(request.path.removeprefix("/static/"), request.headers)
        if request.path.startswith("/api/"):
            reader = await self._reader_for(request, place)
            arguments = asked(request.arguments, request.headers)
            return await routes.answer(reader, request.path.removeprefix("/api"), arguments)
        progress = _PROGRESS.fullmatch(request.path)
        if progress:
            reader = await self._reader_for(request, place)
            return await progress_file.answer(reader, self._settings, unquote(progress[1], errors="replace"))
        return pages.answer(request)

    async def _reader_for(self, request: Request, place: Place) -> Reader:
        """A reader of what this viewer may see."""
        viewer = await self._gate.viewer(request)
        if viewer is None:
            raise unauthorized()
        place.of_viewer(_key(viewer))
        return reader_for(self._reader, viewer)

    async def _viewing(self, request: Request, place: Place, send: Send, close: Close) -> Session:
        viewer = await self._gate.viewer(request)
        place.of_viewer(_key(viewer))
        if viewer is None:
            await _wait(self._pace.unknown(request.address, time.monotonic()))

        def authenticate(token: str) -> Viewer:
            with self._telling(request, close):
                holder = self._gate.viewer_with(token, request.address)
                place.of_viewer(_key(holder))
                return holder

        def make(send: Send, close: Close) -> Session:
            return ViewerSession(self._reader, send, close, viewer=viewer, authenticate=authenticate)

        return Limited("viewer", _LONGEST, place, self.counts, make, send, close)

    async def _writing(self, request: Request, place: Place, send: Send, close: Close) -> Session:
        writers = self._writers
        assert writers is not None
        writer = self._gate.writer(request)

        def authenticate(token: str) -> Writer:
            with self._telling(request, close):
                return self._gate.writer_with(token)

        def make(send: Send, close: Close) -> Session:
            return writers.session(send, close, writer=writer, authenticate=authenticate)

        return Limited("writer", _LONGEST_WRITTEN, place, self.counts, make, send, close)

    @contextmanager
    def _telling(self, request: Request, close: Close) -> Iterator[None]:
        """Tell a session of a refusal in its own words."""
        try:
            yield
        except Refusal as refusal:
            self.counts.refusals[refusal.code] += 1
            self._pace.refused(request.address, time.monotonic())
            if refusal.status != 401:
                close(refusal.close_code, refusal.code)
            raise TokenError(str(refusal)) from None

    async def _take_time(self, refusal: Refusal, request: Request) -> None:
        """Let those wait who are refused again and again; their places are taken meanwhile."""
        if refusal.status in _GUESSES:
            await _wait(self._pace.refused(request.address, time.monotonic()))

    def _refusal(self, refusal: Refusal) -> Whole:
        self.counts.refusals[refusal.code] += 1
        answer = routes.json({"error": str(refusal)}, refusal.status)
        return replace(answer, headers={**answer.headers, **refusal.headers})


async def _wait(seconds: float) -> None:
    """Wait about so long: those who came together are not to come again together."""
    if seconds:
        await asyncio.sleep(seconds * random.uniform(0.5, 1.5))


def _key(viewer: Viewer | None) -> str:
    """What a viewer's places are counted under; nothing for one who is nobody in particular."""
    if viewer is None:
        return ""
    if viewer.via == "token":
        return repr((viewer.name, viewer.seen, viewer.expires))
    return f"{viewer.via}:{viewer.name}" if viewer.name else ""
