"""What a shipper elsewhere asks of a relay over one WebSocket, beside its records: the shape of each request. Pure.

A request is a JSON text with an `id`, which its answer has too. What may be long follows as its body: binary messages,
each with a head that says of which request it is a part.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, TypeGuard, get_args

import msgspec

from celery_livelog.attempts import Attempt
from celery_livelog.runs import RunEntry, Stage
from celery_livelog.stores.manifest import Segment

#: Bytes of a body, and of one message with a part of it.
LONGEST_BODY = 40 * 1024 * 1024
_PART = 256 * 1024
_HEAD = struct.Struct("<BI")
#: No JSON begins with it.
_BODY = 0


class Request(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`size`: the bytes of the body that follows."""

    id: int = 0
    size: int = 0


class Records(Request, kw_only=True, tag="records"):
    """Records for the live stream, as JSON lines in the body; see `Parcel`. The answer is a `Taken`."""

    task_id: str
    attempt: str
    fresh: bool = False
    known: Attempt | None = None


class LastN(Request, kw_only=True, tag="last_n"):
    """The last number of an attempt that the live stream holds?"""

    task_id: str
    attempt: str


class Lease(Request, kw_only=True, tag="lease"):
    """The shipper of this name lives."""

    name: str


class Archived(Request, kw_only=True, tag="archived"):
    """All of a task's attempt is in archive and stream."""

    task_id: str


class PutSegment(Request, kw_only=True, tag="segment"):
    """A segment for the archive; the body is its bytes."""

    task_id: str
    attempt: str
    segment: Segment


class PutManifest(Request, kw_only=True, tag="manifest"):
    """A manifest, which is the body; with `tidy`, delete what else is there."""

    tidy: bool = False


class Segments(Request, kw_only=True, tag="segments"):
    """The segments that the manifest of an attempt names?"""

    task_id: str
    attempt: str


class HasSegments(Request, kw_only=True, tag="has"):
    """Are these segments, a list in the body, there as they were put?"""

    task_id: str
    attempt: str


class PutRows(Request, kw_only=True, tag="rows"):
    """Rows for the catalog: a `Rows` in the body. The answer is how many may not be written, and why."""


StreamRequest = Records | LastN | Lease | Archived
ArchiveRequest = PutSegment | PutManifest | Segments | HasSegments
AnyRequest = StreamRequest | ArchiveRequest | PutRows
#: How the messages of requests are told from others.
TYPES = frozenset(str(kind.__struct_config__.tag) for kind in get_args(AnyRequest))


class Rows(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of attempts, runs and stages."""

    attempts: list[Attempt] = []
    runs: list[RunEntry] = []
    stages: list[Stage] = []


class Taken(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of records, see `Sent`."""

    records: int = 0
    vanished: bool = False
    error: str = ""
    refused: bool = False


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True, tag="answer"):
    """`error`: why there is none; `forbidden`: nor will there be."""

    id: int
    value: Any = None
    error: str = ""
    forbidden: bool = False


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(AnyRequest).decode


def parts(request: int, body: bytes) -> Iterator[bytes]:
    """A body as messages."""
    head = _HEAD.pack(_BODY, request)
    for at in range(0, len(body), _PART):
        yield head + body[at : at + _PART]


def is_part(message: str | bytes) -> TypeGuard[bytes]:
    """Whether a message is a part of a body."""
    return isinstance(message, bytes) and len(message) >= _HEAD.size and message[0] == _BODY


def part(message: bytes) -> tuple[int, bytes]:
    """The request to which a part of a body belongs, and the part."""
    _, request = _HEAD.unpack_from(message)
    return request, message[_HEAD.size :]
