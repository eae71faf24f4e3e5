"""The files of one process' journal: read one after another, and deleted when no attempt needs them any more.

An attempt that goes on in the next part does not need the ones before it for ever: beside each part lies the state in
which it begins, and once the archive has all that the attempt had given until then, a later shipper may begin there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from celery_livelog import spool
from celery_livelog.errors import complain
from celery_livelog.frames import FrameReader
from celery_livelog.shipper.copies import RawCopy


class Part:
    """One file of the journal with its copy, and the attempts that need it.

    :param carried: the attempts that run where it begins.
    """

    def __init__(self, path: Path, full: Callable[[], bool], carried: Collection[str] = ()) -> None:
        self.path = path
        self.reader = FrameReader(path)
        self.copy = RawCopy(path.with_suffix(".copy"), full)
        self.attempts = set(carried)
        #: Of these, those of which the archive does not yet have all that was before this part.
        self.unsecured = set(carried)
        #: Those that need it no more, although they are not done.
        self.spared: set[str] = set()
        self._done = path.with_suffix(".done")
        self._state = path.with_suffix(".state")

    @property
    def needed(self) -> bool:
        """Whether some attempt needs it."""
        return not self.attempts <= self.spared

    def state(self) -> bytes:
        """The state in which it begins; nothing when that is not known."""
        return self._state.read_bytes() if self._state.exists() else b""

    def note_state(self, state: bytes) -> bool:
        """Tell later shippers the state in which it begins; give whether that could be written."""
        temporary = self._state.with_suffix(".state.new")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "wb") as file:
                file.write(state)
            temporary.replace(self._state)
        except OSError as error:
            complain("the state of a log cannot be noted: its journal stays until it ends", error)
            return False
        return True

    def done(self) -> set[str]:
        """The attempts that an earlier shipper was done with."""
        return set(self._done.read_text(errors="replace").split()) if self._done.exists() else set()

    def note_done(self, attempt: str) -> None:
        """Tell later shippers that we are done with an attempt; one that is not told archives the same once more."""
        self.attempts.discard(attempt)
        try:
            fd = os.open(self._done, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, attempt.encode() + b"\n")
            finally:
                os.close(fd)
        except OSError as error:
            complain("what is archived cannot be noted", error)

    def close(self, *, delete: bool) -> None:
        """Let go of it."""
        self.reader.close()
        if delete:  # first of all: without what lies beside it, it would be read otherwise
            self.path.unlink(missing_ok=True)
        self.copy.close(delete=delete)
        if delete:
            self._done.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)


class Parts:
    """All parts of a journal that somebody still needs, from the oldest to that which is read now.

    :param process: its name in the spool directory.
    :param full: whether the spool's budget is spent.
    """

    def __init__(self, directory: Path, process: str, full: Callable[[], bool]) -> None:
        self._directory = directory
        self._process = process
        self._full = full
        self._known: set[str] = set()
        self._parts: list[Part] = []
        self._sequence = min(
            int(name.split(".")[1])
            for name in os.listdir(directory)
            if name.startswith(process + ".") and name.endswith(".journal")
        )
        self._open(())
        #: The state in which the first part begins; nothing when that is the beginning.
        self.state = self.current.state()

    @property
    def current(self) -> Part:
        """The part that is read now."""
        return self._parts[-1]

    @property
    def needed(self) -> bool:
        """Whether some attempt is not yet where it belongs."""
        return any(part.attempts for part in self._parts)

    def is_done(self, attempt: str) -> bool:
        """Whether an earlier shipper was done with an attempt."""
        return attempt in self._known

    def there_is_more(self, *, alive: bool) -> bool:
        """Whether the process writes to the next part. An empty one does not say so: some threads are a moment late."""
        following = self._path(self._sequence + 1)
        return following.exists() and (not alive or following.stat().st_size > 0)

    def advance(self, state: bytes, carried: Collection[str]) -> int:
        """Go on with the next part; give its number.

        :param state: how things stand there.
        :param carried: the attempts that run there; they are to be `secured` under that number.
        """
        self._sequence += 1
        self._open(carried)
        if not self.current.note_state(state):
            self.current.unsecured.add("")  # for ever
        self._spare(len(self._parts) - 1)
        return self._sequence

    def secured(self, attempt: str, number: int) -> None:
        """The archive has all that an attempt had given when the part of that number began."""
        at = number - self._sequence + len(self._parts) - 1
        if at > 0:
            self._parts[at].unsecured.discard(attempt)
            self._spare(at)

    def done(self, attempt: str) -> None:
        """The attempt's log is where it belongs: its frames are needed no more."""
        for part in self._parts:
            if attempt in part.attempts:
                part.note_done(attempt)
        self._drop()

    def settle_copies(self) -> None:
        """Write what copies are owed, the oldest first, as a later shipper will read them."""
        all(part.copy.settle() for part in self._parts)

    def close(self, *, delete: bool) -> None:
        """Let go of all parts."""
        for part in self._parts:
            part.close(delete=delete)

    def _path(self, sequence: int) -> Path:
        return self._directory / f"{self._process}.{sequence:06d}.journal"

    def _open(self, carried: Collection[str]) -> None:
        part = Part(self._path(self._sequence), self._full, carried)
        self._known |= part.done()
        self._parts.append(part)

    def _spare(self, at: int) -> None:
        """A shipper could begin with this part: then those who are carried over to it need none before it."""
        part = self._parts[at]
        if not part.unsecured:
            for older in self._parts[:at]:
                older.spared |= part.attempts
        self._drop()

    def _drop(self) -> None:
        """Delete the parts, oldest first, that nobody needs; the last one is still being written."""
        while len(self._parts) > 1 and not self._parts[0].needed:
            self._parts.pop(0).close(delete=True)


def processes(directory: Path) -> set[str]:
    """The names of all processes that have journals in the directory."""
    return {name.split(".")[0] for name in os.listdir(directory) if name.endswith(".journal")}


def process_alive(directory: Path, process: str, leaving: Callable[[], bool]) -> bool:
    """Whether a process that writes journals lives; of our own process, whose lock cannot be asked, until it leaves."""
    if process.partition("-")[0] == str(os.getpid()):
        return not leaving()
    return spool.held(directory, process)
