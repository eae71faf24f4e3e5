"""Archives that are workers' own: read through workers where that can be, else said where they lie and what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from celery_livelog.asking import Asking
from celery_livelog.attempts import Attempt
from celery_livelog.errors import ArchiveError
from celery_livelog.reader.elsewhere import Elsewhere
from celery_livelog.records import FINAL_STATES
from celery_livelog.settings import Settings
from celery_livelog.stores.manifest import Manifest, attempt_path
from celery_livelog.stores.stream import RedisError
from celery_livelog.stores.stream_reader import StreamReader

_SHARE = "set livelog_archive_url to a place that all can read"


class Disks:
    """The disks of an app's workers, as far as archives lie there.

    :param stream: what Redis knows, if there is one.
    :param app: the Celery app, if there is one.
    """

    def __init__(self, settings: Settings, stream: StreamReader | None, app: Any) -> None:
        self._shared = settings.archive_shared
        self._stream = stream
        self._elsewhere = Elsewhere(app) if app is not None else None
        self._asking = Asking[Manifest | None]()

    def may_have_more(self, known: Iterable[Attempt]) -> bool:
        """Whether there may be attempts of a task of which only Redis' index knows."""
        return not self._shared and all(attempt.ended and attempt.state not in FINAL_STATES for attempt in known)

    async def manifest(self, attempt: Attempt) -> Manifest | None:
        """What the archive on its worker's disk holds of an attempt; None when that is nothing so far.

        :raises ArchiveError: when that cannot be read: where it lies, and what to do.
        """
        if self._shared:
            return None
        elsewhere = self._elsewhere
        if elsewhere is None:
            raise await self._unreadable(attempt, "and no worker can be asked without its Celery app")
        try:
            manifest = await self._asking.ask(attempt.attempt, lambda: elsewhere.manifest(attempt))
        except ArchiveError as error:
            raise await self._unreadable(attempt, f"but {error}") from error
        if manifest is None and attempt.ended:
            raise await self._unreadable(attempt, "but is not there any more")
        return manifest

    async def read(self, manifest: Manifest, after: int) -> AsyncIterator[list[bytes]]:
        """Encoded records of what `manifest` has found, after a number.

        :raises ArchiveError: see there.
        """
        assert self._elsewhere is not None
        try:
            async for lines in self._elsewhere.read(manifest, after):
                yield lines
        except ArchiveError as error:
            raise await self._unreadable(manifest.attempt, f"but {error}") from error

    async def close(self) -> None:
        """Ask nobody any more."""
        await self._asking.close()
        if self._elsewhere is not None:
            self._elsewhere.close()

    async def _unreadable(self, attempt: Attempt, why: str) -> ArchiveError:
        place, host = attempt.archive or await self._place(attempt), attempt.worker.rpartition("@")[2] or "another host"
        return ArchiveError(f"the log of {attempt.task_id} lies in {place or 'an archive'} on {host}, {why}; {_SHARE}")

    async def _place(self, attempt: Attempt) -> str:
        """Where its shipper has said that its archive is; empty when nobody knows."""
        if self._stream is None or not attempt.lease:
            return ""
        try:
            disk = await self._stream.disk(attempt.lease)
        except RedisError:
            return ""
        return f"{disk}/{attempt_path(attempt.task_id, attempt.attempt)}" if disk else ""
