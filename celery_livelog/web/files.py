"""The scripts and styles that pages load, this server's own and those of any site that embeds a log."""

from __future__ import annotations

import mimetypes
import zlib
from collections.abc import Mapping
from pathlib import Path

from celery_livelog.web.answers import Whole
from celery_livelog.web.refusal import Refusal

_FILES = {file.name: file for file in (Path(__file__).parent / "static").iterdir() if file.is_file()}


def answer(name: str, headers: Mapping[str, str]) -> Whole:
    """One of them; only what has changed is sent again.

    :raises Refusal: when there is no such file.
    """
    file = _FILES.get(name)
    if file is None:
        raise Refusal(404, "not found")
    content = file.read_bytes()
    tag = f'"{zlib.crc32(content):08x}"'
    # Modules import each other by plain names: after an upgrade none may come from a cache unasked.
    kept = {"Cache-Control": "no-cache", "ETag": tag}
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if tag in headers.get("if-none-match", ""):
        return Whole(content_type, b"", kept, status=304)
    return Whole(content_type, content, kept)
