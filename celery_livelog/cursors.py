"""Places in a log, as they stand in URLs, messages and commands. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from celery_livelog.errors import CursorError


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after record `n` of an attempt; as text ``attempt:n``, good in stream, archive and URL alike."""

    attempt: str
    n: int

    _FORM = re.compile(r"([0-9a-f]{8,32}):([0-9]{1,15})")

    def __str__(self) -> str:
        return f"{self.attempt}:{self.n}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read a cursor.

        :raises CursorError: when `text` is not ``attempt:n``.
        """
        match = cls._FORM.fullmatch(text)
        if match is None:
            raise CursorError(f"{text[:60]!r} is not a cursor; expected ATTEMPT:N such as 3f2a90bc77d01e44:120")
        return cls(match[1], int(match[2]))
