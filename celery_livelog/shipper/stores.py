"""The sinks of a shipper, wired up: live stream, archive, catalog, run directories and the worker's console."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import monotonic

from celery_livelog import spool
from celery_livelog.attempts import Attempt
from celery_livelog.records import Record
from celery_livelog.runs import Run
from celery_livelog.settings import Settings
from celery_livelog.shipper.archiver import Archiver
from celery_livelog.shipper.bearer import bearer
from celery_livelog.shipper.console import Console
from celery_livelog.shipper.contracts import ArchiveStore, RowStore, StreamStore
from celery_livelog.shipper.live import Live
from celery_livelog.shipper.projection import Known
from celery_livelog.shipper.recorder import Recorder
from celery_livelog.shipper.run_files import open_run_files
from celery_livelog.shipper.settling import Settling
from celery_livelog.stores.archive import Archive
from celery_livelog.stores.catalog import Catalog
from celery_livelog.stores.link import Link
from celery_livelog.stores.remote_archive import RemoteArchive
from celery_livelog.stores.remote_catalog import RemoteCatalog
from celery_livelog.stores.remote_stream import RemoteStream
from celery_livelog.stores.stream_writer import StreamWriter

_CLOSE_SECONDS = 3.0
#: Seconds between two looks at how much of the spool waits for a catalog or a Redis that is away. Above half of the
#: budget the journals are let go: output comes first.
_WEIGH_SECONDS = 1.0


class Stores:
    """Everything that a shipper writes to.

    :param console: the descriptors to which raw output is forwarded.
    :param directory: the spool directory, for what waits for a store that is away. Its name is that of the lease.
    """

    def __init__(self, settings: Settings, console: tuple[int, int], directory: Path) -> None:
        #: Called with the id of an attempt whose log needs its journal no more.
        self.archived: Callable[[str], None] = lambda attempt: None
        #: Called with the id and the number that `secure` was called with.
        self.secured: Callable[[tuple[str, int]], None] = lambda secured: None
        #: Called with an attempt's id and the number up to which its live stream has all, or stands a gap for it.
        self.sent: Callable[[str, int], None] = lambda attempt, n: None
        #: The names under which it is said in Redis who lives.
        self.leases: Callable[[], Iterable[str]] = lambda: (directory.name,)
        self._settling: Settling[str] = Settling(lambda attempt: self.archived(attempt))
        self._securing: Settling[tuple[str, int]] = Settling(lambda secured: self.secured(secured))
        self._directory = directory
        self._patience_bytes = settings.spool_max_bytes // 2
        self._weighed_at = 0.0
        self._live = None
        stream, archive, catalog, self._link = _reached(settings)
        if stream is not None:
            self._live = Live(
                stream,
                settings,
                lambda: self.leases(),
                self._settling.written,
                lambda attempt, n: self.sent(attempt, n),
            )
        self._archiver = Archiver(archive, settings.maxlen, directory, self._when_archived, self._when_secured)
        self._recorder = Recorder(catalog, directory, self._settling.written, self._securing.written)
        self._run_files = open_run_files(settings, directory, self._settling.written, self._securing.written)
        #: Asks for nothing and is waited for by nobody.
        self.console = Console(console)

    def begins(self, attempt: Attempt, run: Run) -> None:
        """Take note that an attempt of a run that has a name has begun, or goes on under this shipper."""
        for files in self._run_files:
            files.put(attempt, run, [])

    def records(self, attempt: Attempt, records: Sequence[Record], *, resumed: bool, run: Run | None = None) -> None:
        """Take records of an attempt; after its last one, `attempt` says how it ended.

        :param run: the run with a name in which they were made.
        """
        if run is not None:
            for files in self._run_files:
                files.put(attempt, run, records)  # before the archive, which tells them when it has all
        if self._live is not None:
            self._live.put(attempt, records, resumed=resumed)
        self._archiver.put(attempt, records, resumed=resumed)

    def secure(self, attempt: Attempt, number: int) -> None:
        """Take all that an attempt has given until now to all stores but the stream; then `secured` is called."""
        for files in self._run_files:
            files.flush(attempt.attempt)
        self._archiver.secure(attempt, number)

    def previews(self, attempt: Attempt, previews: Sequence[Record]) -> None:
        """Take unfinished lines: for live viewers only."""
        if self._live is not None:
            self._live.put(attempt, previews, resumed=False)

    def catalog(self, attempt: Attempt, *, silent: bool = False) -> None:
        """Take what is known of an attempt now; of one that ended `silent` nothing else is stored."""
        if silent:
            self._settling.expect(attempt.attempt, 1)
        self._recorder.put(attempt, last=silent)

    def known(self, news: Iterable[Known]) -> None:
        """Take what is new of an attempt's run and stages."""
        for known in news:
            self._recorder.put(known)

    def leave(self, attempt: str) -> None:
        """Somebody else writes an attempt from here on; what waits of it is theirs to give."""
        if self._live is not None:
            self._live.leave(attempt)
        self._archiver.leave(attempt)

    def forget(self, attempt: str) -> None:
        """Nothing of an attempt will be asked of any shipper again."""
        for files in self._run_files:
            files.forget(attempt)

    def renew(self) -> None:
        """Have the leases renewed now."""
        if self._live is not None:
            self._live.renew()

    def tick(self) -> None:
        """Called each round of the loop."""
        if self._live is not None:
            self._live.tick()
        for files in self._run_files:
            files.tick()
        now = monotonic()
        if (self._settling or self._securing) and now > self._weighed_at + _WEIGH_SECONDS:
            self._weighed_at = now
            if spool.spent(self._directory) > self._patience_bytes:
                self._settling.give_up()
                self._securing.give_up()

    @property
    def lost(self) -> bool:
        """Whether a store has lost what it had taken: then all journals are to be read once more."""
        return self._archiver.lost

    def begin_anew(self) -> None:
        """What was lost is given once more."""
        self._archiver.lost = False

    @property
    def idle(self) -> bool:
        """Whether everything is written; not asked of the console, which may be gone."""
        if not (self._archiver.idle and self._recorder.idle and (self._live is None or self._live.idle)):
            return False
        return all(files.idle for files in self._run_files)

    def close(self) -> None:
        """Stop all sinks, each after what it still holds or after some seconds."""
        self.console.close(_CLOSE_SECONDS)
        self._archiver.close(_CLOSE_SECONDS)
        self._recorder.close(_CLOSE_SECONDS)
        for files in self._run_files:
            files.close(_CLOSE_SECONDS)
        if self._live is not None:
            self._live.close(_CLOSE_SECONDS)
        if self._link is not None:
            self._link.close()

    def _when_secured(self, attempt: str, number: int) -> None:
        self._securing.expect((attempt, number), 1 + len(self._run_files))
        self._recorder.secure(attempt, number)
        for files in self._run_files:
            files.secure(attempt, number)

    def _when_archived(self, attempt: Attempt) -> None:
        self._settling.expect(attempt.attempt, (1 if self._live is None else 2) + len(self._run_files))
        self._recorder.put(attempt, last=True)
        for files in self._run_files:
            files.archived(attempt.attempt)
        if self._live is not None:
            self._live.archived(attempt)


def _reached(settings: Settings) -> tuple[StreamStore | None, ArchiveStore, RowStore, Link | None]:
    """The stores: this host's own, or those behind a relay, and the way there."""
    if settings.transport is not None:
        link = Link(settings.transport, bearer(settings))
        return RemoteStream(link), RemoteArchive(link), RemoteCatalog(link), link
    stream = None
    if settings.redis_url is not None:
        stream = StreamWriter(settings.redis_url, settings.key_prefix, settings.maxlen, settings.expires)
    return stream, Archive(settings.archive_url), Catalog(settings.database_url), None
