"""Bytes at paths: a folder, a bucket or this process's memory behind one URL. Knows nothing about logs.

What is put is read back before it counts as stored, and everything that a store raises becomes one line.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from celery_livelog.errors import ArchiveError
from celery_livelog.stores.manifest import folder_of

if TYPE_CHECKING:
    from obstore.store import RetryConfig

#: How long a remote store may fail before that is an error: the shipper has a back-off of its own.
RETRY: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}

#: Objects that one answer lists.
_LISTED = 1000
#: How a local store names a file until all of it is written; it lists none of them.
_HALF_WRITTEN = re.compile(r"#\d+$")


class Objects:
    """The objects below ``file://``, ``s3://``, ``gs://``, ``az://`` or ``memory://``, which all of a process share.

    What the shipper needs is synchronous, what readers need asynchronous. Each raises `ArchiveError` when the store
    fails.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._folder = folder_of(url) if url.startswith("file:") else None

    def put(self, path: str, data: bytes) -> None:
        """Store `data` as a whole or not at all, in place of what was there.

        :raises ArchiveError: also when the store then gives back anything else.
        """
        with _one_line(f"cannot store {path}"):
            self._make_folder(path)
            self._store.put(path, data, use_multipart=False)
        with _one_line(f"cannot read back {path}"):
            stored = self._store.get(path).bytes()
        sent, found = (len(data), zlib.crc32(data)), (len(stored), zlib.crc32(stored))
        if sent != found:
            raise ArchiveError(
                f"{path} came back from the store with {found[0]} bytes and CRC {found[1]:08x}; "
                f"expected what was sent, {sent[0]} bytes and CRC {sent[1]:08x}"
            )

    def fetch(self, path: str) -> bytes | None:
        """As `get`, for who writes."""
        if not self.exists:
            return None
        with _one_line(f"cannot read {path}"):
            try:
                return bytes(self._store.get(path).bytes())
            except FileNotFoundError:
                return None

    def length(self, path: str) -> int:
        """As `size`, for who writes."""
        if not self.exists:
            return 0
        with _one_line(f"cannot read {path}"):
            try:
                return self._store.head(path)["size"]
            except FileNotFoundError:
                return 0

    def keep_only(self, path: str, names: Collection[str]) -> None:
        """Delete all objects in the folder `path` but these, and what a killed process has left half written there."""
        with _one_line(f"cannot tidy {path}"):
            found = [item["path"] for item in self._store.list_with_delimiter(path)["objects"]]
            self._store.delete([item for item in found if item.rpartition("/")[2] not in names])
            if self._folder is not None:
                for half in (self._folder / path).iterdir():
                    if _HALF_WRITTEN.search(half.name):
                        half.unlink(missing_ok=True)

    async def folders(self, path: str) -> list[str]:
        """The paths of the folders in the folder `path`; none when it does not exist."""
        if not self.exists:
            return []
        with _one_line(f"cannot list {path}"):
            return list((await self._store.list_with_delimiter_async(path))["common_prefixes"])

    async def walk(self, path: str) -> AsyncIterator[str]:
        """The paths of all objects below the folder `path`, folder by folder."""
        if not self.exists:
            return
        with _one_line(f"cannot list {path}"):
            async for listed in self._store.list(path, chunk_size=_LISTED):
                for item in listed:
                    yield item["path"]

    async def get(self, path: str) -> bytes | None:
        """A whole object; None when there is none."""
        if not self.exists:
            return None
        with _one_line(f"cannot read {path}"):
            try:
                return bytes(await (await self._store.get_async(path)).bytes_async())
            except FileNotFoundError:
                return None

    async def get_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, fewer when the object ends there."""
        with _one_line(f"cannot read {path}"):
            return bytes(await self._store.get_range_async(path, start=start, end=end))

    async def size(self, path: str) -> int:
        """The size of an object in bytes; 0 when there is none."""
        if not self.exists:
            return 0
        with _one_line(f"cannot read {path}"):
            try:
                return (await self._store.head_async(path))["size"]
            except FileNotFoundError:
                return 0

    @cached_property
    def _store(self) -> ObjectStore:
        if self._folder is not None:
            return LocalStore(self._folder)
        return _memory(self._url) if self._url.startswith("memory:") else from_url(self._url, retry_config=RETRY)

    @property
    def exists(self) -> bool:
        """Whether anything can have been put; reading makes no folder."""
        return self._folder is None or self._folder.is_dir()

    def _make_folder(self, path: str) -> None:
        """Make the folder for an object: for this user alone, unless the user had made the top one for more."""
        if self._folder is None:
            return
        mode = self._folder.stat().st_mode & 0o777 if self._folder.is_dir() else 0o700
        missing = [folder for folder in (self._folder / path).parents if not folder.is_dir()]
        for folder in reversed(missing):
            folder.mkdir(mode, exist_ok=True)


@cache
def _memory(url: str) -> MemoryStore:
    return MemoryStore()


@cache
def _first_user() -> int:
    """The process that used a store first; the threads of all stores are its own."""
    return os.getpid()


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Raise what a store raises as an error of one line; the stores add paragraphs for their developers."""
    if _first_user() != os.getpid():  # it would wait for ever
        raise ArchiveError(f"{what}: forked from a process that had used an archive; expected one started afresh")
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        raise ArchiveError(f"{what}: {str(error).partition(chr(10))[0]}") from error
