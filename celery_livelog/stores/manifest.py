"""What the archive holds of an attempt, and under which path. Pure: no I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.errors import ArchiveError
from celery_livelog.names import safe_name


class Segment(msgspec.Struct, kw_only=True):
    """An immutable piece of an archived log, the records `first` to `last`.

    `frames` are the numbers at which its frames start; `size` and `crc32` are of the stored bytes.
    """

    name: str
    first: int
    last: int
    records: int
    raw_bytes: int
    size: int
    crc32: int
    frames: list[int]


class Manifest(msgspec.Struct, kw_only=True):
    """What the archive holds of one attempt. In its JSON the fields of the attempt stand beside the segments."""

    attempt: Attempt
    segments: list[Segment] = []
    complete: bool = False
    version: Literal[1] = 1

    @property
    def path(self) -> str:
        """The folder of the attempt within the archive."""
        return attempt_path(self.attempt.task_id, self.attempt.attempt)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Read a manifest.

        :raises ArchiveError: when `text` is not one.
        """
        try:
            fields = msgspec.json.decode(text, type=dict[str, Any])
            return msgspec.convert({**fields, "attempt": fields}, cls)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ArchiveError(f"not a manifest: {error}") from error

    def to_json(self) -> bytes:
        """The manifest as one flat object, every field in it whatever its value."""
        return msgspec.json.encode({**msgspec.structs.asdict(self), **msgspec.structs.asdict(self.attempt)})


def attempt_path(task_id: str, attempt: str) -> str:
    """The folder of an attempt within the archive."""
    return f"tasks/{safe_name(task_id)}/{attempt}"


def folder_of(url: str) -> Path:
    """The folder of an archive at a ``file://`` URL.

    :raises ArchiveError: when that is none.
    """
    folder = Path(unquote(url.removeprefix("file://")))
    if not folder.is_absolute():
        raise ArchiveError(f"{url} is not a folder for an archive; expected file:// and an absolute path")
    return folder
