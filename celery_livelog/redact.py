"""Hide secrets in text: what was given as a secret, in the encodings in which programs print it, and regex matches.

Pure, and best effort: a secret that was reversed, compressed or coloured in its middle is not recognised.

Rules:
- what several secrets cover together becomes one ``***``, so no part of a longer one stays;
- patterns see one line at a time; of a match with a group named ``secret``, only that group is hidden;
- a pattern that cannot be compiled hides everything: better no log than one with secrets in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from celery_livelog.encodings import forms
from celery_livelog.literals import Literals, Span

HIDDEN = "***"
#: Characters of all forms of secrets together; with more, everything is hidden: memory has to end somewhere.
_MOST_CHARACTERS = 32 * 1024 * 1024
#: Characters that wait where a line is cut, so that patterns see what belongs together.
_PATTERN_HOLD = 4096
#: Characters of a secret at the end of an unfinished line that are held back: a single one begins a secret too often.
_MAY_BEGIN = 2
#: … and at the end of a text that was cut off, for ever: fewer tell little, and stand there by chance.
_TELLING = 4


def compiled(pattern: object) -> re.Pattern[str]:
    """Compile a pattern for secrets.

    :raises ValueError: when it is no regular expression, or one that matches the empty text.
    """
    if not isinstance(pattern, str):
        raise ValueError(f"{pattern!r} is no text")
    try:
        found = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is none: {error}") from None
    if found.search("") is not None:
        raise ValueError(f"{pattern!r} matches the empty text")
    return found


class Redactor:
    """Replaces secrets in text by ``***``. Without secrets and patterns it is false, and gives texts as they are.

    :param secrets: texts, or bytes as they are printed; those of several lines are found line by line, too.
    :param patterns: regular expressions.
    """

    def __init__(self, secrets: Iterable[str | bytes] = (), patterns: Iterable[str] = ()) -> None:
        self._literals = Literals()
        self._patterns: list[re.Pattern[str]] = []
        #: Whether nothing but ``***`` comes out.
        self.hides_all = False
        self.add(secrets, patterns)

    def __bool__(self) -> bool:
        return bool(self._literals or self._patterns or self.hides_all)

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        if self.hides_all:
            return HIDDEN if text else text
        if self._literals and not self._literals.absent(text):
            text = self._without_secrets(text)
        if self._patterns:
            matched = "\n".join(_hide(line, self._matches(line)) for line in text.split("\n"))
            text = self._without_secrets(matched) if matched != text else text
        return text

    def add(self, secrets: Iterable[str | bytes] = (), patterns: Iterable[str] = ()) -> None:
        """Hide these as well, from now on."""
        for secret in secrets:
            for form in forms(secret) if not self.hides_all else ():
                self._literals.add(form)
            if self._literals.size > _MOST_CHARACTERS:
                self.hide_all()
        for pattern in patterns:
            try:
                self._patterns.append(compiled(pattern))
            except ValueError:
                self.hide_all()

    def hide_all(self) -> None:
        """Let nothing but ``***`` come out from now on."""
        self.hides_all, self._literals = True, Literals()

    def copy(self) -> Redactor:
        """The same, to which others can be added."""
        other = Redactor()
        other._literals, other._patterns = self._literals.copy(), self._patterns.copy()
        other.hides_all = self.hides_all
        return other

    def beginning(self, text: str) -> tuple[str, str]:
        """Redact a line that goes on: give what of it can be shown, and the end that has to wait, as it was."""
        if self.hides_all:
            return HIDDEN, ""
        hold = max(self._literals.longest - 1, _PATTERN_HOLD if self._patterns else 0)
        at = max(0, len(text) - hold)
        for start, end in self._spans(text):
            if start < at < end:
                at = start if at - start <= hold else end
        return self(text[:at]), text[at:]

    def unfinished(self, line: str) -> str:
        """Redact a line that is being written; what at its end may become a secret is left out.

        With patterns any word may, since nobody can ask them how their matches begin.
        """
        if self.hides_all:
            return self(line)
        at = self._literals.begun(line, _MAY_BEGIN)
        if self._patterns and line and not line[-1].isspace():
            at = min(at, len(line) - len(line.rsplit(None, 1)[-1]))
        for start, end in self._spans(line) if at < len(line) else ():
            if start < at < end:
                at = start
        return self(line[:at])

    def cut_off(self, text: str) -> str:
        """Redact a text that was cut off, perhaps in the middle of a secret."""
        if self.hides_all:
            return self(text)
        at = self._literals.begun(text, _TELLING)
        return self(text[:at] + HIDDEN) if at < len(text) else self(text)

    def _without_secrets(self, text: str) -> str:
        """Again until nothing is found: what is left may come together as another secret. It gets shorter each time."""
        while spans := self._literals.find(text):
            text = _hide(text, spans)
        return text

    def _spans(self, line: str) -> list[Span]:
        return _merged([*self._literals.find(line), *self._matches(line)])

    def _matches(self, line: str) -> list[Span]:
        spans = []
        for pattern in self._patterns:
            group = "secret" if "secret" in pattern.groupindex else 0
            spans += [match.span(group) for match in pattern.finditer(line)]
        return [(start, end) for start, end in spans if start < end]


def _merged(spans: list[Span]) -> list[Span]:
    """In order, and those that overlap as one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _hide(text: str, spans: list[Span]) -> str:
    if not spans:
        return text
    parts: list[str] = []
    at = 0
    for start, end in _merged(spans):
        parts += (text[at:start], HIDDEN)
        at = end
    return "".join((*parts, text[at:]))
