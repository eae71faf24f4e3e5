"""The Zstandard seekable format: lines packed into frames that can be read one by one. No I/O, nothing about records.

Rules:
- a frame holds whole lines and is a zstd file of its own, with a checksum of its content;
- the last frame is the seek table, a skippable frame, so any zstd tool reads the whole as one file;
- nothing that a damaged frame claims of itself is believed before it is checked.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from itertools import accumulate, pairwise

from celery_livelog.errors import ArchiveError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Bytes of lines that a frame holds at most; a longer line is a frame of its own.
FRAME_BYTES = 128 * 1024
#: Bytes that a frame may claim to unpack to; above any record, and little enough to allocate on a claim.
FRAME_LIMIT = 1 << 26

_PACKING: dict[int, int] = {zstd.CompressionParameter.compression_level: 3, zstd.CompressionParameter.checksum_flag: 1}
_UNPACKING: dict[int, int] = {zstd.DecompressionParameter.window_log_max: FRAME_LIMIT.bit_length() - 1}

# https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md
_HEADER = struct.Struct("<II")  # magic number, bytes that follow
_ENTRY = struct.Struct("<II")  # compressed and decompressed size of a frame
_FOOTER = struct.Struct("<IBI")  # number of frames, descriptor (0: no checksums here, each frame has its own), magic
_SKIPPABLE_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1


def pack(lines: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """Compress `lines`, none of which contains a newline.

    :returns: the packed bytes, and for each frame the index of the line it starts with.
    :raises ArchiveError: when a line is too long to be read back.
    """
    compressor = zstd.ZstdCompressor(options=_PACKING)
    starts = _cut(lines)
    frames: list[bytes] = []
    entries: list[bytes] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        raw = b"\n".join((*lines[start:end], b""))
        if len(raw) > FRAME_LIMIT:
            raise ArchiveError(f"a record of {len(raw)} bytes cannot be archived; expected at most {FRAME_LIMIT}")
        frame = compressor.compress(raw, zstd.ZstdCompressor.FLUSH_FRAME)
        frames.append(frame)
        entries.append(_ENTRY.pack(len(frame), len(raw)))
    footer = _FOOTER.pack(len(frames), 0, _SEEKABLE_MAGIC)
    header = _HEADER.pack(_SKIPPABLE_MAGIC, len(entries) * _ENTRY.size + len(footer))
    return b"".join((*frames, header, *entries, footer)), starts


def unpack(frame: bytes) -> list[bytes]:
    """Give back the lines of one frame.

    :raises ArchiveError: when the frame is damaged, or claims more than `FRAME_LIMIT`.
    """
    return _raw(frame).split(b"\n")[:-1]


def _raw(frame: bytes) -> bytes:
    try:
        claimed = zstd.get_frame_info(frame).decompressed_size or 0
        if not 0 < claimed <= FRAME_LIMIT:
            raise ArchiveError(f"a frame claims to hold {claimed} bytes; expected at most {FRAME_LIMIT}")
        decompressor = zstd.ZstdDecompressor(options=_UNPACKING)
        raw: bytes = decompressor.decompress(frame, claimed + 1)
    except zstd.ZstdError as error:
        raise ArchiveError(f"a frame is damaged: {error}") from error
    if not decompressor.eof or len(raw) != claimed:
        raise ArchiveError(f"a frame is damaged: it claims to hold {claimed} bytes and gives {len(raw)}")
    return raw


def offsets(end: bytes, size: int) -> list[int]:
    """Read the seek table: where each frame begins and, as the last item, where the table itself does.

    :param end: the last bytes of the packed ones, enough to hold the table.
    :param size: how many packed bytes there are in all.
    :raises ArchiveError: when `end` holds no seek table that fits `size`.
    """
    if len(end) >= _FOOTER.size:
        count, descriptor, magic = _FOOTER.unpack_from(end, len(end) - _FOOTER.size)
        length = count * _ENTRY.size + _FOOTER.size
        table = len(end) - length
        if magic == _SEEKABLE_MAGIC and descriptor == 0 and table >= _HEADER.size:
            sizes = (packed for packed, _ in _ENTRY.iter_unpack(end[table : -_FOOTER.size]))
            found = list(accumulate(sizes, initial=0))
            header = _HEADER.unpack_from(end, table - _HEADER.size)
            if header == (_SKIPPABLE_MAGIC, length) and found[-1] + _HEADER.size + length == size:
                return found
    raise ArchiveError("the seek table is damaged")


def scan(packed: bytes) -> list[int]:
    """Find the `offsets` without the seek table, by going from frame to frame as far as they are whole."""
    view, found = memoryview(packed), [0]
    while view[found[-1] : found[-1] + 4] != _SKIPPABLE_MAGIC.to_bytes(4, "little"):
        try:
            found.append(found[-1] + zstd.get_frame_size(view[found[-1] :]))
        except zstd.ZstdError:
            break
    return found


def claims(packed: bytes) -> list[tuple[bytes, int]]:
    """The frames, and how many bytes each says that it holds.

    :raises ArchiveError: when the seek table does not fit, or a frame is none.
    """
    frames = [packed[here:there] for here, there in pairwise(offsets(packed, len(packed)))]
    try:
        return [(frame, zstd.get_frame_info(frame).decompressed_size or 0) for frame in frames]
    except zstd.ZstdError as error:
        raise ArchiveError(f"a frame is damaged: {error}") from error


def is_one_line(frame: bytes) -> bool:
    """Whether a frame holds a single line.

    :raises ArchiveError: as `unpack`.
    """
    return _raw(frame).count(b"\n") == 1


def _cut(lines: Sequence[bytes]) -> list[int]:
    """The indexes of the lines that start a frame."""
    starts: list[int] = []
    room = 0
    for index, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            starts.append(index)
            room = FRAME_BYTES - len(line) - 1
    return starts
