"""Split written bytes into lines of text. Knows nothing about attempts, Redis or terminals.

Rules:
- a line ends at ``\n``; the ``\r`` of a ``\r\n`` belongs to the ending;
- ``\r`` inside a line goes back to its start, as on a terminal: what was last drawn there is the line;
- only whole lines are decoded, so a character may be split over any number of writes;
- bytes that are not UTF-8 become visible ``\\xNN``; nothing is ever raised or dropped;
- any chunking of the same bytes gives the same lines.
"""

from __future__ import annotations

from collections.abc import Callable

#: Bytes of what was drawn over and is kept of one line all the same.
_KEPT = 64 * 1024
#: Bytes that an unfinished line may hold; then what is there leaves as a piece marked "more follows".
WHOLE_LINE = 4 * 1024 * 1024


class LineSplitter:
    """One stream of bytes on its way to lines.

    :param keeps: says of what is drawn over whether it stays all the same: it stands before the line, with its ``\r``.
    """

    __slots__ = ("_at_start", "_keeps", "_kept", "_limit", "_parts", "_redrawn", "_size", "changed")

    def __init__(self, limit: int = WHOLE_LINE, keeps: Callable[[bytes], object] | None = None) -> None:
        self._keeps = keeps
        self._kept = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._limit = limit
        self._at_start = False  # a carriage return was the last thing seen: what comes next draws over
        self._redrawn = False
        #: Whether the unfinished line has changed since `preview` was last read.
        self.changed = False

    def feed(self, data: bytes) -> list[tuple[str, bool]]:
        """Take what was written; give each line that it finishes, and whether the line goes on ("more")."""
        if not self._size and not self._at_start and self._is_plain(data):
            self._redrawn = self.changed = False
            return [(line.decode("utf-8", "backslashreplace"), False) for line in data[:-1].split(b"\n")]
        lines: list[tuple[str, bool]] = []
        head, newline, tail = data.partition(b"\n")
        if newline:
            self._hold(head, lines)
            lines.append((self._take(), False))
            *whole, tail = tail.split(b"\n")
            for line in whole:
                if len(line) <= self._limit and (self._keeps is None or b"\r" not in line):
                    lines.append((_text(line), False))
                else:
                    self._hold(line, lines)
                    lines.append((self._take(), False))
        else:
            tail = head
        self._hold(tail, lines)
        return lines

    def close(self) -> list[tuple[str, bool]]:
        """Give the last line if it was left without a newline."""
        return [(self._take(), False)] if self._size or self._kept else []

    @property
    def held(self) -> tuple[bytes, bool, bool]:
        """The unfinished line, for `resume`."""
        return self._kept + b"".join(self._parts), self._at_start, self._redrawn

    def resume(self, held: tuple[bytes, bool, bool]) -> None:
        """Go on from where another one stood."""
        line, self._at_start, self._redrawn = held
        start = line.rfind(b"\r") + 1
        self._kept, line = line[:start], line[start:]
        self._parts, self._size = ([line], len(line)) if line else ([], 0)
        self.changed = bool(line)

    def preview(self) -> str:
        """The unfinished line as it stands now, for a live view, up to its last whole character."""
        self.changed = False
        line = b"".join(self._parts)
        return _text(line[: _character_boundary(line)])

    @property
    def redrawn(self) -> bool:
        """Whether the unfinished line went back to its start, as those of progress bars do."""
        return self._redrawn or self._at_start

    def _is_plain(self, data: bytes) -> bool:
        """Whether this is what nearly all writes are: short whole lines."""
        return data.endswith(b"\n") and b"\r" not in data and len(data) <= self._limit

    def _hold(self, data: bytes, lines: list[tuple[str, bool]]) -> None:
        """Keep `data` for the unfinished line; pieces of an overlong one leave at the limit."""
        first, *redrawn = data.split(b"\r")
        self._append(first, lines)
        for segment in redrawn:
            self._at_start = True
            self._append(segment, lines)

    def _append(self, segment: bytes, lines: list[tuple[str, bool]]) -> None:
        if not segment:
            return
        if self._at_start:
            self._draw_over()
        self.changed = True
        while self._size + len(segment) > self._limit:
            room = self._limit - self._size
            held = b"".join((*self._parts, segment[:room]))
            cut = _character_boundary(held)
            lines.append((_text(held[:cut]), True))
            segment = held[cut:] + segment[room:]
            self._parts, self._size = [], 0
        if segment:
            self._parts.append(segment)
            self._size += len(segment)

    def _draw_over(self) -> None:
        line = b"".join(self._parts)
        if self._keeps is not None and len(self._kept) + len(line) < _KEPT and self._keeps(line):
            self._kept += line + b"\r"
        self._parts, self._size, self._at_start, self._redrawn, self.changed = [], 0, False, True, False

    def _take(self) -> str:
        line, kept = b"".join(self._parts), self._kept
        self._parts, self._size, self._at_start, self._redrawn, self.changed = [], 0, False, False, False
        self._kept = b""
        return kept.decode("utf-8", "backslashreplace") + _text(line) if kept else _text(line)


def _text(line: bytes) -> str:
    if b"\r" in line:
        line = line.rstrip(b"\r")
        line = line[line.rfind(b"\r") + 1 :]
    return line.decode("utf-8", "backslashreplace")


def _character_boundary(data: bytes) -> int:
    """Where to cut `data` without splitting a UTF-8 character: its length, or up to 3 bytes before."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if length > back else len(data)
        if byte < 0x80:
            break
    return len(data)
