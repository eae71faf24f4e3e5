"""Where the commands write: the log to stdout as bytes, what is said about it to stderr."""

from __future__ import annotations

import os
import sys

import click

from celery_livelog.cli.terminal import harmless

#: What a shell shows for a command that wrote to a closed pipe: 128 + SIGPIPE.
_BROKEN_PIPE = 141


class Output:
    """The two standard streams. Whoever reads may leave, as ``head`` does: that ends the command, quietly.

    :param colour: whether colours are wanted where they can be shown.
    """

    def __init__(self, colour: bool = True) -> None:
        self._stdout = sys.stdout.buffer
        self.on_terminal = sys.stdout.isatty()
        self.colour = colour

    def write(self, text: str) -> None:
        """Write text of the log, at once."""
        if not text:
            return
        try:
            self._stdout.write(text.encode("utf-8", "backslashreplace"))
            self._stdout.flush()
        except BrokenPipeError:
            _leave()

    def note(self, text: str, failure: bool = False) -> None:
        """Say something about the log, on one line of stderr."""
        style = {"fg": "red"} if failure else {"dim": True}
        try:
            click.secho(harmless(text, styles=False), err=True, color=None if self.colour else False, **style)
        except BrokenPipeError:
            _leave()


def _leave() -> None:
    """End the command; what Python still holds for the pipe goes nowhere instead of raising at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    raise click.exceptions.Exit(_BROKEN_PIPE)
