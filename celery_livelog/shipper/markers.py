"""Markers that scripts print for their CI: which lines are some, and what they say. Pure.

A marker is looked for in whole lines of stdout and stderr. The dialects are those of GitHub (``::group::Build``),
Buildkite (``--- Build``) and GitLab (``section_start:1560896352:build\\r\\e[0KBuild``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from celery_livelog.redact import HIDDEN

#: GitHub's words for what its lines are, and ours.
_LEVELS = {"error": "ERROR", "warning": "WARNING", "notice": "INFO", "debug": "DEBUG"}
_GITHUB = re.compile(r"\s*::([^\s:]+)(?:\s[^\r\n]*?)?::([^\r\n]*)")
_BUILDKITE = re.compile(r"(?:\x1b\[[0-9;]*m)*(?:---|\+\+\+|~~~)(?:\s+(.*)|$)")
_GITLAB = re.compile(r"(?:\x1b\[[0-9;]*[mK])*section_(start|end):\d+:([^\s:\[\]]+)(?:\[[^\]]*\])?")
_GITLAB_BYTES = re.compile(_GITLAB.pattern.encode())
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ESCAPES = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
#: Characters of a stage's name.
_LONGEST_NAME = 500


class Marker(NamedTuple):
    """What a line says: that a stage begins or ends, that the line has a level, or that its text is secret.

    `key` names the stages that an end ends, and that a beginning ends first.
    """

    kind: Literal["begin", "end", "level", "mask"]
    text: str = ""
    key: str = ""


class Markers:
    """Finds the markers of some dialects in lines.

    :param dialects: of ``github``, ``buildkite``, ``gitlab``.
    """

    def __init__(self, dialects: Sequence[str]) -> None:
        self._github = "github" in dialects
        self._buildkite = "buildkite" in dialects
        #: What a line keeps although it is drawn over; see `LineSplitter`.
        self.keeps = _GITLAB_BYTES.fullmatch if "gitlab" in dialects else None
        #: GitHub's markers are plain lines until this token comes: whoever prints what is not theirs asks for that.
        self.stopped = ""

    def find(self, line: str) -> tuple[str, list[Marker]]:
        """The line as it is shown, and its markers."""
        found: list[Marker] = []
        if self.keeps is not None:
            line, found = _gitlab(line)
            if found:
                return line, found
        if self._github and (match := _GITHUB.match(line)) is not None:
            return self._command(line, match)
        if self._buildkite and (match := _BUILDKITE.match(line)) is not None:
            return line, [Marker("begin", _name(match[1] or ""), "buildkite")]
        return line, found

    def preview(self, line: str) -> str:
        """An unfinished line as it may be shown."""
        match = _GITHUB.match(line) if self._github and not self.stopped else None
        return line if match is None or match[1].lower() != "add-mask" else _masked(line, match)

    def _command(self, line: str, match: re.Match[str]) -> tuple[str, list[Marker]]:
        command, text = match[1].lower(), match[2]
        if self.stopped:
            if match[1] == self.stopped:
                self.stopped = ""
        elif command == "stop-commands":
            self.stopped = text.strip()
        elif command == "group":
            return line, [Marker("begin", _name(_unescaped(text)), "github")]
        elif command == "endgroup":
            return line, [Marker("end", "", "github")]
        elif command in _LEVELS:
            return line, [Marker("level", _unescaped(text), _LEVELS[command])]
        elif command == "add-mask":
            return _masked(line, match), [Marker("mask", _unescaped(text))]
        return line, []


def _masked(line: str, match: re.Match[str]) -> str:
    return line[: match.start(2)] + HIDDEN


def _gitlab(line: str) -> tuple[str, list[Marker]]:
    """GitLab hides a marker from terminals by drawing over it: the stage's title, if any, is what is drawn."""
    *hidden, shown = line.split("\r")
    if not hidden and (match := _GITLAB.fullmatch(shown)) is not None:
        hidden = [shown]
    found: list[Marker] = []
    for match in filter(None, map(_GITLAB.fullmatch, hidden)):
        found.append(Marker("begin" if match[1] == "start" else "end", match[2], f"gitlab {match[2]}"))
    if found and found[-1].kind == "begin" and (title := _name(shown)) and _GITLAB.fullmatch(shown) is None:
        found[-1] = found[-1]._replace(text=title)
    return shown, found


def _name(text: str) -> str:
    return " ".join(_ANSI.sub("", text).split())[:_LONGEST_NAME]


def _unescaped(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character).replace(escape.lower(), character)
    return text
