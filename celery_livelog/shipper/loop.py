"""The shipper's loop: from the journals of a worker's processes to the sinks, until worker and work are gone."""

from __future__ import annotations

import select
import shutil
import time
from collections import deque
from collections.abc import Callable
from copy import copy
from pathlib import Path

from celery_livelog import spool
from celery_livelog.errors import complain, hide_in_messages
from celery_livelog.settings import Settings
from celery_livelog.shipper.attempt import AttemptLog
from celery_livelog.shipper.closing import Closing
from celery_livelog.shipper.follow import Follower, Shown
from celery_livelog.shipper.parts import process_alive, processes
from celery_livelog.shipper.redaction import Redactions
from celery_livelog.shipper.stores import Stores

#: Seconds between two looks: at raw files, which cannot ring, at first and when they are quiet; at unfinished lines; at
#: all else.
_RAW_SECONDS, _QUIET_SECONDS, _PREVIEW_SECONDS, _IDLE_SECONDS = 0.01, 0.05, 0.15, 0.5
#: Seconds from a round that found something to the next. Nobody rings meanwhile: that costs a task more than ten lines.
_BUSY_SECONDS = 0.005
#: Seconds between two looks at how much memory the processes have that run tasks.
_WEIGH_SECONDS = 1.0
#: Seconds between two rows of a stage that goes on: what people look at between two clicks.
_TELL_SECONDS = 1.0
#: Seconds that a shipper whose worker is gone goes on trying; then the journals wait for the next worker's.
_LEAVE_SECONDS = 60.0
#: Seconds until all is sent once more to an archive that has lost something.
_LOST_SECONDS = 5.0


class Shipper:
    """Ships one spool directory.

    :param leaving: whether the worker is gone or going.
    """

    def __init__(self, directory: Path, settings: Settings, stores: Stores, leaving: Callable[[], bool]) -> None:
        self._directory = directory
        self._settings = settings
        self._redactions = Redactions(settings.redactor)
        self._stores = stores
        self._leaving = leaving
        self._doorbell = spool.Doorbell(directory)
        self._followers: dict[str, Follower] = {}
        self._owners: dict[str, Follower] = {}
        self._archived: deque[str] = deque()
        self._secured: deque[tuple[str, int]] = deque()
        self._closing = Closing()
        self._changed = -1
        self._first_round = True
        self._preview_at = 0.0
        self._weighed_at = self._spent_at = self._told_at = 0.0
        self._over_budget = False
        stores.archived = self._archived.append
        stores.secured = self._secured.append

    def run(self) -> bool:
        """Ship until all is done; give whether anything is left for another shipper."""
        poll = select.poll()
        poll.register(self._doorbell.fifo, select.POLLIN)
        beat, deadline = 0, 0.0
        while not self._stores.lost:
            beat += 1
            self._doorbell.beat(beat)
            busy = self.round()
            if not busy:
                if self._leaving():
                    waits = any(follower.program.remains for follower in self._followers.values())
                    deadline = time.monotonic() + _LEAVE_SECONDS if waits or not deadline else deadline
                    if not self._followers and self._stores.idle:
                        return False
                    if time.monotonic() > deadline:
                        return True
                self._doorbell.doze()
                busy = self.round()
            if busy:
                self._doorbell.rouse()
                poll.poll(1000 * _BUSY_SECONDS)
            else:
                self._wait(poll)
            self._doorbell.rouse()
        complain("the archive has lost what it had taken: all that the journals hold goes there once more")
        poll.poll(1000 * _LOST_SECONDS)
        return True

    def round(self) -> bool:
        """Take all that is new to the sinks; give whether there was anything."""
        busy = False
        worker_gone = bool(self._closing) and self._leaving()  # asked first: what it said before it went is there now
        self._discover()
        for follower in self._followers.values():
            for shown in follower.read():
                busy = True
                self._show(follower, shown)
        for log, records in self._closing.due(worker_gone=worker_gone):
            busy = True
            self._show(self._owners[log.attempt.attempt], Shown(log, records))
        self._preview()
        self._tell_progress()
        self._weigh()
        self._settle()
        self._stores.tick()
        self._first_round = False
        return busy

    def close(self) -> None:
        """Let go of the journals; of those that are no longer needed, delete what is left."""
        for follower in self._followers.values():
            follower.close(delete=False)
        self._doorbell.close()

    def _discover(self) -> None:
        changed = self._directory.stat().st_mtime_ns
        if changed == self._changed:
            return
        self._changed = changed
        for process in processes(self._directory) - self._followers.keys():
            alive = lambda process=process: process_alive(self._directory, process, self._leaving)  # noqa: E731
            self._followers[process] = Follower(
                self._directory,
                process,
                alive,
                self._full,
                self._closing,
                self._redactions,
                self._settings.markers,
            )

    def _show(self, follower: Follower, shown: Shown) -> None:
        if shown.raw and self._settings.tee:
            self._stores.console.put(shown.stream, shown.raw)
        log = shown.log
        if log is None:
            return
        attempt = log.attempt
        if attempt.attempt not in self._owners:
            self._owners[attempt.attempt] = follower
            self._stores.known(log.projection.take_news())  # its run first: who finds the task finds that, too
            self._stores.catalog(copy(attempt))
            if log.run is not None:
                self._stores.begins(attempt, log.run)
        if shown.records:
            self._stores.records(attempt, shown.records, resumed=self._first_round, run=log.innermost_run)
        if log.projection.news:
            self._stores.known(log.projection.take_news())
        if shown.part:
            self._stores.secure(attempt, shown.part)
        if log.ended:
            self._stores.catalog(copy(attempt), silent=log.silent)

    def _preview(self) -> None:
        """Show unfinished lines as they stand: a prompt, a progress bar."""
        now = time.monotonic()
        if now < self._preview_at:
            return
        self._preview_at = now + _PREVIEW_SECONDS
        for log in self._logs():
            if log.unfinished:
                self._stores.previews(log.attempt, log.previews(time.time_ns()))

    def _tell_progress(self) -> None:
        """Tell the catalog how far stages have come."""
        now = time.monotonic()
        if now > self._told_at + _TELL_SECONDS:
            self._told_at = now
            for log in self._logs():
                if log.projection.moving:
                    self._stores.known(log.projection.progress())

    def _weigh(self) -> None:
        now = time.monotonic()
        if now > self._weighed_at + _WEIGH_SECONDS:
            self._weighed_at = now
            for follower in self._followers.values():
                if follower.logs:
                    follower.weigh()

    def _settle(self) -> None:
        """Let go of what is where it belongs."""
        while self._archived:
            attempt = self._archived.popleft()
            self._owners.pop(attempt).parts.done(attempt)
            self._stores.forget(attempt)
        while self._secured:
            attempt, part = self._secured.popleft()
            if attempt in self._owners:
                self._owners[attempt].parts.secured(attempt, part)
        for process, follower in list(self._followers.items()):
            if follower.finished and not follower.parts.needed and not follower.program.remains:
                follower.close(delete=True)
                del self._followers[process]

    def _wait(self, poll: select.poll) -> None:
        """Wait until something is there to be taken, or the time has come to look at all else."""
        writers = [follower for follower in self._followers.values() if follower.files.current and follower.logs]
        patience = _PREVIEW_SECONDS if any(log.unfinished for log in self._logs()) else _IDLE_SECONDS
        end = time.monotonic() + patience
        pause = _RAW_SECONDS if writers else patience
        while not poll.poll(1000 * pause) and time.monotonic() < end:
            if any(follower.files.have_grown for follower in writers):
                return
            pause = min(2 * pause, _QUIET_SECONDS)

    def _logs(self) -> list[AttemptLog]:
        return [log for follower in self._followers.values() for log in follower.logs]

    def _full(self) -> bool:
        """Whether the spool's budget is spent; weighed ten times a second at most."""
        now = time.monotonic()
        if now > self._spent_at + 0.1:
            self._spent_at = now
            self._over_budget = spool.spent(self._directory) > self._settings.spool_max_bytes
        return self._over_budget


def ship(directory: Path, settings: Settings, leaving: Callable[[], bool], console: tuple[int, int] = (1, 2)) -> None:
    """Ship a spool directory to its end, and delete it unless something is left in it; nothing if another ships it.

    :param console: the descriptors to which raw output is forwarded.
    """
    lock = spool.Lock(directory, spool.SHIPPER)
    if not lock.take():
        lock.release()
        return
    hide_in_messages(settings.redactor)
    again = True
    while again:
        stores = Stores(settings, console, directory)
        shipper = Shipper(directory, settings, stores, leaving)
        try:
            left = shipper.run()
        finally:
            shipper.close()
            stores.close()
        again = stores.lost
    if not left and not processes(directory):
        shutil.rmtree(directory, ignore_errors=True)  # while it is locked: nobody begins to ship what goes
    lock.release()
