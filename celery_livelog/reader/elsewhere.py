"""Archives on the disks of workers: what cannot be read here is asked of a worker there, by Celery's remote control.

Nothing shared needs to be configured for it, but a worker must run on that host.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.errors import ArchiveError, said
from celery_livelog.serving import COMMAND, MOST_BYTES
from celery_livelog.stores.manifest import Manifest
from celery_livelog.stores.segments import read_segments

#: Seconds for the worker that ran a task to answer; for others of its host, all of which are waited for.
_ANSWER_SECONDS, _NEIGHBOUR_SECONDS = 2.0, 1.0
#: Seconds beyond, when the broker itself does not answer.
_BROKER_SECONDS = 3.0
#: Seconds for which a host that did not answer is not asked again.
_SILENT_SECONDS = 10.0
#: Questions that are asked at the same time.
_AT_ONCE = 4
#: How often, and seconds until, a worker that has answered too much of late is asked again.
_BUSY_TRIES, _BUSY_SECONDS = 20, 0.25
#: Manifests that are remembered; seconds for which those of attempts that go on are.
_REMEMBERED, _FRESH_SECONDS = 100, 2.0
#: Bytes of a manifest that are taken; that of a log of 100 GB has fewer.
_LARGEST_MANIFEST = 64 * 1024 * 1024


class _Answer(msgspec.Struct):
    """What `serving` answers."""

    size: int = 0
    at: int = 0
    data: bytes = b""
    absent: bool = False
    busy: bool = False
    error: str = ""


class Elsewhere:
    """Asks the workers of one Celery app, few questions at a time, in threads. All raise `ArchiveError`.

    :param app: the Celery app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._threads: ThreadPoolExecutor | None = None
        self._silent: dict[str, float] = {}
        #: Who answers for a worker: itself, or another on the same disk when it is gone.
        self._neighbours: dict[str, str] = {}
        self._manifests: OrderedDict[str, tuple[float, Manifest]] = OrderedDict()

    async def manifest(self, attempt: Attempt) -> Manifest | None:
        """What the archive of the worker that ran an attempt holds of it; None when that is nothing.

        :raises ArchiveError: when nobody answers for that archive.
        """
        until, manifest = self._manifests.get(attempt.attempt, (0.0, None))
        if manifest is not None and (manifest.complete or monotonic() < until):
            return manifest
        text = await self._whole(attempt, "manifest.json")
        if text is None:
            return None
        manifest = Manifest.from_json(text)
        if (manifest.attempt.task_id, manifest.attempt.attempt) != (attempt.task_id, attempt.attempt):
            raise ArchiveError(f"{attempt.worker} has answered with the manifest of another attempt")
        self._manifests[attempt.attempt] = monotonic() + _FRESH_SECONDS, manifest
        self._manifests.move_to_end(attempt.attempt)
        while len(self._manifests) > _REMEMBERED:
            self._manifests.popitem(last=False)
        return manifest

    def read(self, manifest: Manifest, after: int) -> AsyncIterator[list[bytes]]:
        """See `read_segments`."""
        return read_segments(_Ranges(self, manifest.attempt), manifest, after)

    async def ask(self, attempt: Attempt, name: str, start: int, end: int) -> _Answer:
        """Bytes of one file of an attempt, `MOST_BYTES` at most.

        :raises ArchiveError: when nobody answers, or only that nothing can be read.
        """
        for _ in range(_BUSY_TRIES):
            answer = await self._asked(attempt, name, start, end)
            if answer.error:
                raise ArchiveError(f"{attempt.worker} cannot read {name} of {attempt.task_id}: {answer.error}")
            if not answer.busy:
                return answer
            await asyncio.sleep(_BUSY_SECONDS)
        raise ArchiveError(f"{attempt.worker} is asked for too much")

    def close(self) -> None:
        """Let go of the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def _whole(self, attempt: Attempt, name: str) -> bytes | None:
        answer = await self.ask(attempt, name, 0, MOST_BYTES)
        data, at = answer.data, answer.at
        while not answer.absent and len(data) < answer.size <= _LARGEST_MANIFEST:
            answer = await self.ask(attempt, name, len(data), len(data) + MOST_BYTES)
            if answer.at != at or not answer.data:
                raise ArchiveError(f"{name} of {attempt.task_id} was replaced while it was read")
            data += answer.data
        return None if answer.absent else data

    async def _asked(self, attempt: Attempt, name: str, start: int, end: int) -> _Answer:
        worker = self._neighbours.get(attempt.worker, attempt.worker)
        if monotonic() < self._silent.get(worker, 0.0):
            raise ArchiveError(f"{worker} does not answer")
        question = {"task_id": attempt.task_id, "attempt": attempt.attempt, "name": name, "start": start, "end": end}
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_AT_ONCE, "livelog-elsewhere")
        loop = asyncio.get_running_loop()
        asking = loop.run_in_executor(self._threads, self._ask, attempt.worker, worker, question)
        try:
            answer = await asyncio.wait_for(asking, _ANSWER_SECONDS + _NEIGHBOUR_SECONDS + _BROKER_SECONDS)
        except asyncio.TimeoutError:
            raise ArchiveError(f"{worker} does not answer in time") from None
        if answer is None:
            self._silent[worker] = monotonic() + _SILENT_SECONDS
            raise ArchiveError(f"{worker} does not answer")
        return answer

    def _ask(self, of: str, worker: str, question: dict[str, Any]) -> _Answer | None:
        """In a thread: what the worker answers, else one beside it that reads the same disk; None for silence."""
        if monotonic() < self._silent.get(worker, 0.0):
            return None  # others have waited for it while this question waited for its turn
        try:
            replies = self._broadcast(question, _ANSWER_SECONDS, destination=[worker]) if "@" in worker else {}
            if not replies:
                host = worker.rpartition("@")[2]
                # A connection of its own: with Redis, the one that nothing came from still waits for up to a second.
                with self._app.connection_for_write() as connection:
                    to = {"pattern": f"*@{host}", "matcher": "glob", "connection": connection}
                    replies = self._broadcast(question, _NEIGHBOUR_SECONDS, **to)
        except Exception as error:
            raise ArchiveError(f"the broker does not answer: {said(error)}") from error
        for name, answer in replies.items():
            if not answer.absent and not answer.error:
                self._neighbours[of] = name
                return answer
        # Of others on its host nobody knows whether they would have it.
        return replies.get(worker)

    def _broadcast(self, question: dict[str, Any], timeout: float, **to: Any) -> dict[str, _Answer]:
        from celery.app.control import Control  # late, as all that is only needed where there is an app

        # A mailbox of its own: who else asks with the app's, as Flower does, would take our replies.
        replies = Control(self._app).broadcast(COMMAND, arguments=question, reply=True, timeout=timeout, **to)
        answers = {}
        for name, reply in ((name, reply) for replied in replies or () for name, reply in replied.items()):
            try:
                answers[name] = msgspec.convert(reply, _Answer)
            except msgspec.ValidationError as error:
                answers[name] = _Answer(error=said(error))
        return answers


class _Ranges:
    """The files of one attempt, as `read_segments` wants them."""

    def __init__(self, elsewhere: Elsewhere, attempt: Attempt) -> None:
        self._elsewhere = elsewhere
        self._attempt = attempt

    async def get_range(self, path: str, start: int, end: int) -> bytes:
        data = b""
        while start + len(data) < end:
            answer = await self._elsewhere.ask(self._attempt, path.rpartition("/")[2], start + len(data), end)
            if not answer.data:
                break
            data += answer.data
        return data

    async def size(self, path: str) -> int:
        return (await self._elsewhere.ask(self._attempt, path.rpartition("/")[2], 0, 0)).size
