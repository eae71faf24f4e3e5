"""The log of one program: a spool directory with a shipper of its own, a journal with one attempt, and raw files."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from celery_livelog import endings, files, raw_places, spool
from celery_livelog.attempts import Attempt
from celery_livelog.endings import Ending
from celery_livelog.frames import BEGIN, STDERR, STDOUT, WORD
from celery_livelog.journal import Journal
from celery_livelog.settings import Settings
from celery_livelog.shipper.supervise import ProcessSupervisor
from celery_livelog.writer import AttemptWriter

_SLOT = 1


class Recording:
    """What of a program is recorded.

    :param output: where the shipper says what is wrong.
    :raises LivelogError, OSError: when it cannot be recorded.
    """

    def __init__(self, settings: Settings, output: int) -> None:
        # The console is ours: what the shipper showed it would hold open for as long as it has something to send.
        settings = replace(settings, tee=False, shipper="process")
        self._directory = spool.create(settings.spool_dir)
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._supervisor = ProcessSupervisor(self._directory, settings, output)
        self._lock = spool.Lock(self._directory, self._name)
        self._lock.take()
        self._doorbell = spool.Doorbell(self._directory)
        self._journal = Journal(self._directory, self._name, settings.spool_max_bytes, self._doorbell.ring)
        self.writer = AttemptWriter(self._journal, _SLOT, self._sizes)
        #: The raw files by the descriptors that they stand for; none before `open_raw_files`.
        self.raw: dict[int, int] = {}
        self._paths: dict[str, str] | None = None
        self._shown = -1
        self._supervisor.start()

    @property
    def lease(self) -> str:
        """The name of the lease that the shipper keeps up."""
        return self._directory.name

    @property
    def place(self) -> Path:
        """Where lies what is not shipped yet."""
        return self._directory

    def open_raw_files(self) -> dict[int, int]:
        """Make the files that the program is to have as descriptors 1 and 2.

        :raises OSError: when there is no room for them.
        """
        paths = {}
        for fd, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
            path = raw_places.raw_path(raw_places.raw_place(self._directory), self._name, f"1.{name}")
            self.raw[fd] = files.private_file(path, os.O_RDWR | os.O_APPEND)
            paths[name] = str(path)
        self._shown = files.private_file(raw_places.shown_path(self._directory, self._name), os.O_WRONLY)
        self._paths = paths
        return self.raw

    def begin(self, attempt: Attempt) -> None:
        """Begin the attempt; if this process is killed from here on, the shipper knows what to say."""
        begin = msgspec.json.encode({"attempt": attempt, "raw": self._paths, "program": self._paths is not None})
        self._journal.append(BEGIN, 0, _SLOT, 0, (0, 0), begin, must=True)
        orphan = msgspec.json.encode(endings.word_of_orphan(attempt.task_id))
        self._journal.append(WORD, 0, 0, 0, (0, 0), orphan, force=True)

    def shown(self, stream: int, size: int) -> None:
        """So much of a raw file was shown."""
        os.pwrite(self._shown, size.to_bytes(8, "little"), 8 * (stream - 1))

    def end(self, ending: Ending) -> None:
        """Write how the program ended."""
        self.writer.end(msgspec.json.encode(ending))

    def close(self) -> None:
        """Leave all to the shipper."""
        self._journal.close()
        for fd in (*self.raw.values(), self._shown):
            with suppress(OSError):
                os.close(fd)
        self._lock.release()
        self._supervisor.leave()

    def wait(self, seconds: float) -> bool:
        """Wait until all is shipped; give whether it is."""
        return self._supervisor.wait(seconds)

    def _sizes(self) -> tuple[int, int]:
        if not self.raw:
            return 0, 0
        return os.lseek(self.raw[STDOUT], 0, os.SEEK_END), os.lseek(self.raw[STDERR], 0, os.SEEK_END)
