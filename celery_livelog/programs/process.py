"""The program as a process: how it is started, which signals go on to it, and how it ends."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: What is sent to us is meant for the program.
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
#: What Python ignores and programs expect as it is by default.
_DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ)
#: How the kernel marks what a terminal sends, which the program gets by itself; what that can be.
_OF_KERNEL = 0x80
_OF_TERMINALS = (signal.SIGINT, signal.SIGQUIT)
#: Seconds between two looks for what was not told.
_LOOK_SECONDS = 0.5


class Signals:
    """The signals of this process from here on: none is handled before `next` asks for it.

    What is ignored, as by ``nohup``, stays so, here and in the program. Threads that are started later hold them back,
    too; one of before, such as an app may have started, can be given a signal: it ends nothing then, and comes late.
    """

    def __init__(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        wanted = (*_FORWARDED, signal.SIGCHLD, signal.SIGWINCH)
        held = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
        #: What was blocked before, and is for the program.
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
        self._held = held
        self._late: deque[int] = deque()
        self._handlers = {number: signal.signal(number, self._come_late) for number in held if number in _FORWARDED}

    def next(self, seconds: float) -> tuple[int, bool]:
        """The next signal, and whether it is the terminal's, which all that run there get; after some seconds 0."""
        got = signal.sigtimedwait(self._held, seconds)
        if got is not None:
            return got.si_signo, got.si_code == _OF_KERNEL
        late = self._late.popleft() if self._late else 0
        return late, late in _OF_TERMINALS

    def told_to_go(self) -> bool:
        """Whether somebody wants this process to end."""
        return self.next(0)[0] in _FORWARDED

    def restore(self) -> None:
        """Let them do what they did before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)

    def _come_late(self, number: int, frame: object) -> None:
        self._late.append(number)


class Process:
    """A program that runs.

    :param descriptors: what it has as descriptors 1 and 2; those of this process where it says nothing.
    :param terminal: the path of a terminal that it has instead, as the leader of a session.
    :raises OSError: when it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        signals: Signals,
        descriptors: Mapping[int, int],
        terminal: str | None = None,
        *,
        typed: bool = False,
    ) -> None:
        self._signals = signals
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in descriptors.items()]
        if terminal is not None:  # the first terminal that the leader of a session opens is its own
            actions = [(os.POSIX_SPAWN_OPEN, 1, terminal, os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 1, 2)]
            actions += [(os.POSIX_SPAWN_DUP2, 1, 0)] if typed else []
        self.pid = os.posix_spawnp(
            command[0],
            list(command),
            dict(environment),
            file_actions=actions,
            setsid=terminal is not None,
            setsigmask=signals.before,
            setsigdef=_DEFAULTS,
        )
        self._own_session = terminal is not None

    def wait(self, resized: Callable[[], None]) -> tuple[int, int]:
        """Wait for its end, and pass on what is sent to us.

        :param resized: called when our terminal has another size.
        :returns: its exit code, below 0 for a signal; the most bytes of memory that it had.
        """
        while True:
            number, of_terminal = self._signals.next(_LOOK_SECONDS)
            if number == signal.SIGWINCH:
                resized()
            elif number in _FORWARDED and (self._own_session or not of_terminal):
                os.kill(self.pid, number)  # it is not waited for yet, so nobody else has this id
            else:
                pid, status, used = os.wait4(self.pid, os.WNOHANG)
                if pid:
                    return os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024
