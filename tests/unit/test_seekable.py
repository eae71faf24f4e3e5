"""The seekable format: any lines come back, any damage is noticed, and other zstd tools can read it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from itertools import chain, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.errors import ArchiveError
from celery_livelog.stores import seekable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINES = st.lists(st.binary(max_size=200).map(lambda line: line.replace(b"\n", b" ")), min_size=1, max_size=50)
LONG = [b"%06d %s" % (n, b"abcdefghij" * 20) for n in range(5000)]


def frames_of(packed: bytes) -> list[bytes]:
    """The frames of packed lines, by their seek table."""
    offsets = seekable.offsets(packed, len(packed))
    return [packed[here:there] for here, there in pairwise(offsets)]


@given(LINES)
def test_lines_come_back(lines: list[bytes]) -> None:
    """Whatever is packed is unpacked again, empty lines and strange bytes too."""
    packed, _ = seekable.pack(lines)

    assert [line for frame in frames_of(packed) for line in seekable.unpack(frame)] == lines


def test_frames_hold_whole_lines_within_the_limit() -> None:
    """A frame holds at most 128 KiB of lines, none of them split, and starts with the line that was told."""
    packed, starts = seekable.pack(LONG)

    unpacked = [seekable.unpack(frame) for frame in frames_of(packed)]
    assert len(unpacked) > 5
    assert all(sum(len(line) + 1 for line in lines) <= 128 * 1024 for lines in unpacked)
    assert [lines[0] for lines in unpacked] == [LONG[start] for start in starts]
    assert list(chain.from_iterable(unpacked)) == LONG


def test_a_long_line_has_its_own_frame() -> None:
    """A line over the limit is a frame of its own, as are those of exactly the limit."""
    limit = b"x" * (128 * 1024 - 1)
    packed, starts = seekable.pack([b"a", limit + b"y", b"b", b"c", limit, limit])

    assert starts == [0, 1, 2, 4, 5]
    assert [len(seekable.unpack(frame)) for frame in frames_of(packed)] == [1, 1, 2, 1, 1]


def test_a_line_too_long_to_be_read_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could never be unpacked is not packed."""
    monkeypatch.setattr(seekable, "FRAME_LIMIT", 1000)

    with pytest.raises(ArchiveError, match="1001 bytes"):
        seekable.pack([b"x" * 1000])


def test_the_layout_is_the_published_one() -> None:
    """The last frame is the seek table, with the magic numbers and sizes of the format's description."""
    packed, starts = seekable.pack(LONG)

    count, descriptor, magic = struct.unpack("<IBI", packed[-9:])
    assert (count, descriptor, magic) == (len(starts), 0, 0x8F92EAB1)
    table = len(packed) - 9 - 8 * count
    assert struct.unpack("<II", packed[table - 8 : table]) == (0x184D2A5E, 8 * count + 9)
    entries = list(struct.iter_unpack("<II", packed[table:-9]))
    assert sum(size for size, _ in entries) == table - 8
    assert sum(size for _, size in entries) == sum(len(line) + 1 for line in LONG)


@pytest.mark.skipif(shutil.which("zstdcat") is None, reason="zstdcat is not installed")
def test_zstdcat_reads_it(tmp_path: Path) -> None:
    """The command that everybody has reads a segment as one file."""
    file = tmp_path / "1.jsonl.zst"
    file.write_bytes(seekable.pack(LONG)[0])

    shown = subprocess.run(["zstdcat", file], capture_output=True, check=True).stdout
    assert shown.splitlines() == LONG


def test_any_decompressor_reads_it() -> None:
    """A decompressor that knows nothing of seek tables skips it."""
    assert zstd.decompress(seekable.pack(LONG)[0]).splitlines() == LONG


@given(LINES, st.data())
def test_a_damaged_frame_is_noticed(lines: list[bytes], data: st.DataObject) -> None:
    """A frame with any bit flipped gives its lines or an error, never others."""
    (frame,) = frames_of(seekable.pack(lines)[0])
    damaged = bytearray(frame)
    damaged[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    try:
        assert seekable.unpack(bytes(damaged)) == lines
    except ArchiveError:
        pass


@given(st.binary(max_size=100))
def test_anything_else_is_no_frame(noise: bytes) -> None:
    """Bytes that are no frame are an error of ours."""
    with pytest.raises(ArchiveError):
        seekable.unpack(noise)


@given(LINES, st.data())
def test_a_cut_frame_is_noticed(lines: list[bytes], data: st.DataObject) -> None:
    """A frame that lost its end is an error, not a shorter list."""
    (frame,) = frames_of(seekable.pack(lines)[0])

    with pytest.raises(ArchiveError):
        seekable.unpack(frame[: data.draw(st.integers(0, len(frame) - 1))])


def test_a_claim_above_the_limit_is_refused() -> None:
    """A small frame that unpacks to more than the limit is refused before anything is allocated."""
    bomb = zstd.compress(bytes(seekable.FRAME_LIMIT + 1))

    with pytest.raises(ArchiveError, match="claims"):
        seekable.unpack(bomb)


def test_a_frame_that_claims_nothing_is_refused() -> None:
    """A frame without its size is none of ours; how much it would unpack to is not tried."""
    compressor = zstd.ZstdCompressor()
    frame = compressor.compress(b"a\n") + compressor.flush()

    with pytest.raises(ArchiveError, match="claims"):
        seekable.unpack(frame)


@given(LINES, st.data())
def test_a_damaged_seek_table_is_noticed(lines: list[bytes], data: st.DataObject) -> None:
    """A table with a bit flipped gives the right offsets or an error."""
    packed, _ = seekable.pack(lines)
    right = seekable.offsets(packed, len(packed))
    damaged = bytearray(packed)
    damaged[data.draw(st.integers(right[-1], len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    try:
        assert seekable.offsets(bytes(damaged), len(packed)) == right
    except ArchiveError:
        pass


def test_the_end_is_enough_for_the_seek_table() -> None:
    """The table is read from the last bytes alone, and never from too few or from another file's."""
    packed, starts = seekable.pack(LONG)
    needed = 8 + 8 * len(starts) + 9

    assert seekable.offsets(packed[-needed:], len(packed)) == seekable.offsets(packed, len(packed))
    for end, size in [(packed[1 - needed :], len(packed)), (packed, len(packed) + 1), (b"", 0), (packed[:-1], 0)]:
        with pytest.raises(ArchiveError):
            seekable.offsets(end, size)


@given(st.data())
def test_frames_are_found_without_the_table(data: st.DataObject) -> None:
    """A scan of what is left finds all frames that are whole."""
    packed, _ = PACKED
    offsets = seekable.offsets(packed, len(packed))
    left = data.draw(st.integers(0, len(packed)))

    assert seekable.scan(packed[:left]) == [offset for offset in offsets if offset <= left]


PACKED = seekable.pack(LONG)
