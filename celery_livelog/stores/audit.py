"""Proves that an archive holds what its manifests say: reads every segment, and says what is wrong in which lines.

Streams over the listing of the archive: of however many logs, a few segments are in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from celery_livelog.errors import ArchiveError
from celery_livelog.names import safe_name
from celery_livelog.stores.log_check import Checked, LogCheck
from celery_livelog.stores.manifest import Manifest
from celery_livelog.stores.objects import Objects

#: Logs that are checked at once.
_CONCURRENCY = 8
#: Seconds that a segment may be there before the manifest that names it.
_MOMENT = 1.0
_MANIFEST = "manifest.json"


class Audit:
    """The check of the archive at a URL.

    :raises ArchiveError: from each method, when the store does not answer; damage is no error but a finding.
    """

    def __init__(self, url: str) -> None:
        self._objects = Objects(url)

    @property
    def exists(self) -> bool:
        """Whether there is an archive; of a remote one that is not known before it is asked."""
        return self._objects.exists

    async def check(self, task_ids: Sequence[str] = ()) -> AsyncIterator[Checked]:
        """Check the logs of these tasks, or of all."""
        checks: deque[asyncio.Task[Checked]] = deque()
        try:
            async for folder, names in self._folders(task_ids):
                checks.append(asyncio.ensure_future(self._check(folder, names)))
                if len(checks) >= _CONCURRENCY:
                    yield await checks.popleft()
            while checks:
                yield await checks.popleft()
        finally:
            for left in checks:
                left.cancel()

    async def _folders(self, task_ids: Sequence[str]) -> AsyncIterator[tuple[str, set[str]]]:
        """The folders of attempts, each with the names of the objects in it; stores list them folder by folder."""
        for prefix in [f"tasks/{safe_name(task_id)}" for task_id in task_ids] or ["tasks"]:
            current, names = "", set[str]()
            async for path in self._objects.walk(prefix):
                folder, _, name = path.rpartition("/")
                if folder != current and current:
                    yield current, names
                    names = set()
                current = folder
                names.add(name)
            if current:
                yield current, names

    async def _check(self, folder: str, names: set[str]) -> Checked:
        _, task, attempt = (f"//{folder}").rsplit("/", 2)
        checked = Checked(task, attempt)
        manifest = await self._manifest(folder, checked)
        if manifest is None:
            return checked
        checked.task_id, checked.complete = manifest.attempt.task_id, manifest.complete
        log = LogCheck(checked)
        for segment in manifest.segments:
            data = await self._objects.get(f"{folder}/{segment.name}")
            log.segment(segment, data)
        log.close(manifest)
        unnamed = names - {_MANIFEST, *(segment.name for segment in manifest.segments)}
        if manifest.complete and unnamed:
            checked.found(f"the manifest does not know {', '.join(sorted(unnamed))}")
        return checked

    async def _manifest(self, folder: str, checked: Checked) -> Manifest | None:
        text = await self._objects.get(f"{folder}/{_MANIFEST}")
        if text is None:
            await asyncio.sleep(_MOMENT)
            text = await self._objects.get(f"{folder}/{_MANIFEST}")
        if text is None:
            checked.found("there are segments but no manifest: no line of them is read")
            return None
        try:
            manifest = Manifest.from_json(text)
        except ArchiveError as error:
            checked.found(f"{_MANIFEST} is {error}: no line of the log is read")
            return None
        if manifest.path != folder:
            checked.found(f"{_MANIFEST} is that of {manifest.path}")
            return None
        return manifest
