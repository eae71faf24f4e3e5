"""Places in a log, as they stand in URLs, messages and commands. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from celery_livelog.errors import CursorError


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after record `n` of an attempt; as text ``attempt:n``, good in stream, archive and URL alike.

    :param beside: the places in other attempts, where several run at the same time; as text after commas.
    """

    attempt: str
    n: int
    beside: tuple[Cursor, ...] = ()

    def __str__(self) -> str:
        return ",".join((f"{self.attempt}:{self.n}", *map(str, self.beside)))

    @property
    def places(self) -> dict[str, int]:
        """The last record of each attempt that it names."""
        return {cursor.attempt: cursor.n for cursor in (self, *self.beside)}

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read a cursor.

        :raises CursorError: when `text` is not ``attempt:n``, or several of these with commas between.
        """
        matches = [_FORM.fullmatch(part) for part in text.split(",")]
        places = [cls(match[1], int(match[2])) for match in matches if match is not None]
        if len(places) < len(matches):
            raise CursorError(f"{text[:60]!r} is not a cursor; expected ATTEMPT:N such as 3f2a90bc77d01e44:120")
        return cls(places[0].attempt, places[0].n, tuple(places[1:]))


_FORM = re.compile(r"([0-9a-f]{8,32}):([0-9]{1,15})")
