"""Finds many literal texts in lines, nearly all of which have none of them. Pure.

Of a line, one question is asked, and how long that takes does not depend on how many texts are looked for: is any of
its 4-byte words, read as numbers, a word that some text can show there? A text of 7 bytes or more, wherever it stands,
holds one whole word; for shorter ones, the words that begin 2 bytes later are asked for, too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache

_WORD = 4
#: Bytes of a line that are read as words in one go.
_BLOCK = 4096
#: Bytes of a text that holds a whole word wherever it stands.
_HOLDS_A_WORD = 2 * _WORD - 1

Span = tuple[int, int]


class Literals:
    """Texts of 5 bytes or more. Those that are added later are found from then on."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._words: dict[int, tuple[str, ...]] = {}
        self._starts: dict[str, tuple[str, ...]] = {}
        self._short = False
        #: Characters of the longest text, and of all.
        self.longest = self.size = 0

    def __bool__(self) -> bool:
        return bool(self._texts)

    def copy(self) -> Literals:
        """The same texts, to which others can be added."""
        other = Literals()
        other.__dict__.update(self.__dict__)
        other._texts, other._words, other._starts = self._texts.copy(), self._words.copy(), self._starts.copy()
        return other

    def add(self, text: str) -> None:
        """Find this one, too."""
        if text in self._texts:
            return
        self._texts.add(text)
        self._starts[text[:2]] = (*self._starts.get(text[:2], ()), text)
        self.size += len(text)
        self.longest = max(self.longest, len(text))
        data = _bytes(text)
        self._short = self._short or len(data) < _HOLDS_A_WORD
        for word in {word for at in range(_WORD) for word in _words(data[at : at + _WORD])}:
            self._words[word] = (*self._words.get(word, ()), text)

    def absent(self, line: str) -> bool:
        """Whether surely none of the texts is in the line."""
        data = _bytes(line)
        if len(data) <= _BLOCK and not self._short:  # said twice, because this is the way of nearly all lines
            return self._words.keys().isdisjoint(_words(data))
        return all(self._words.keys().isdisjoint(words) for words in self._all_words(data))

    def find(self, line: str) -> list[Span]:
        """The places of all texts in the line, in no order; they may overlap."""
        near = {word for words in self._all_words(_bytes(line)) for word in self._words.keys() & set(words)}
        texts = {text for word in near for text in self._words[word]}
        return [span for text in texts if text in line for span in _places_of(text, line)]

    def begun(self, line: str, least: int) -> int:
        """Where at the end of the line a text is begun and not whole, by `least` characters or more; else its end."""
        for at in range(max(0, len(line) - self.longest + 1), len(line) - least + 1):
            for text in self._starts.get(line[at : at + 2], ()):
                if len(text) > len(line) - at and line.endswith(text[: len(line) - at]):
                    return at
        return len(line)

    def _all_words(self, data: bytes) -> Iterator[tuple[int, ...]]:
        for first in (0, _WORD // 2) if self._short else (0,):
            for at in range(first, len(data), _BLOCK):
                yield _words(data[at : at + _BLOCK])


@cache
def _struct(words: int) -> struct.Struct:
    return struct.Struct(f"<{words}I")


def _words(data: bytes) -> tuple[int, ...]:
    return _struct(len(data) // _WORD).unpack_from(data)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _places_of(text: str, line: str) -> Iterator[Span]:
    """Where a text, which is there, stands in a line; where it overlaps itself, that is one place."""
    start = at = line.find(text)
    end = start + len(text)
    while (at := line.find(text, at + 1)) >= 0:
        if at >= end:
            yield start, end
            start = at
        end = at + len(text)
    yield start, end
