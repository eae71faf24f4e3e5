"""What a worker that was killed has left in its spool, and shippers that take care of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from celery_livelog import raw_places, spool
from celery_livelog.attempts import Attempt
from celery_livelog.frames import BEGIN, STDERR, STDOUT
from celery_livelog.journal import Journal
from celery_livelog.reader import Reader
from celery_livelog.records import End, Gap, Line, Record, decode
from celery_livelog.settings import Settings
from celery_livelog.stores.archive import Archive, Manifest
from celery_livelog.stores.audit import Audit
from celery_livelog.stores.catalog import Catalog
from celery_livelog.writer import AttemptWriter
from tests.nodes.valkey import Valkey

SECONDS = 60
_AT = "2026-01-02T03:04:05.000006+00:00"
_ENDING = b'{"state":"SUCCESS","exit_code":0,"reason":""}'

#: A shipper that kills itself before or after the call of one function, counted from 1. `half` leaves what a store
#: leaves that is killed while it writes.
_KILLED_SHIPPER = """
import os, signal, sys
from importlib import import_module

target, when, number = sys.argv.pop(2), sys.argv.pop(2), int(sys.argv.pop(2))
module, _, name = target.partition(":")
owner, calls = import_module(module), 0
*path, name = name.split(".")
for part in path:
    owner = getattr(owner, part)
function = getattr(owner, name)

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def killing(*args, **kwargs):
    global calls
    calls += 1
    if calls == number and when == "half":
        args[0]._make_folder(args[1])
        (args[0]._folder / (args[1] + "#1")).write_bytes(args[2][: len(args[2]) // 2])
    if calls == number and when in ("before", "half"):
        kill()
    try:
        result = function(*args, **kwargs)
    except OSError:
        calls -= 1  # it has done nothing
        raise
    if calls == number:
        kill()
    return result

from celery_livelog.shipper.__main__ import main
setattr(owner, name, killing)
main()
"""


class Scene:
    """What a killed worker has left: a journal with three attempts, one of them silent, and raw files."""

    def __init__(self, tmp_path: Path, redis_url: str, archive_url: str | None = "", size: int = 0) -> None:
        """Lay it out.

        :param archive_url: where to archive; a folder in `tmp_path` if not given, the worker's own if None.
        :param size: bytes that are added to each line of the long attempt.
        """
        self.archive = tmp_path / "archive"
        self._filling = "x" * size
        conf = {
            "livelog": True,
            "livelog_dir": str(tmp_path),
            "livelog_redis_url": redis_url,
            "livelog_maxlen": 20,
        }
        if archive_url is not None:
            conf["livelog_archive_url"] = archive_url or self.archive.as_uri()
        self.settings = Settings.from_conf(conf)
        self.process = f"{os.getpid()}-{os.urandom(4).hex()}"
        self.directory = spool.create(self.settings.spool_dir)
        spool.keep_settings(self.directory, self.settings.to_json())
        self._paths = {
            stream: raw_places.raw_path(raw_places.SHARED_MEMORY, self.process, f"1.{stream}")
            for stream in ("stdout", "stderr")
        }
        for path in self._paths.values():
            path.touch(0o600)
        self._journal = Journal(self.directory, self.process, 1 << 30, lambda: None)
        self._attempt(1, "long", 23)
        self._attempt(2, "short", 1)
        self._attempt(3, "silent", 0)
        self._journal.close()

    def tasks(self) -> dict[str, list[str]]:
        """What each task has printed."""
        long = [text for number in range(1, 24) for text in (f"line {number}{self._filling}", f"raw {number}")]
        return {"long": long, "short": [f"line 1{self._filling}", "raw 1"], "silent": []}

    def ship(self) -> subprocess.CompletedProcess[bytes]:
        """Run a shipper to its end."""
        return self._run("-m", "celery_livelog.shipper", str(self.directory))

    def ship_and_die(self, target: str, when: str, number: int) -> bool:
        """Run a shipper that is killed there; give whether it came so far."""
        ended = self._run("-c", _KILLED_SHIPPER, str(self.directory), target, when, str(number))
        assert ended.returncode in (-signal.SIGKILL, 0), ended.stderr.decode()
        return ended.returncode != 0

    def clear(self) -> None:
        """Delete what a test that failed has left outside of its directory."""
        for path in raw_places.SHARED_MEMORY.glob(f"livelog-{self.process}-*"):
            path.unlink()

    def left_overs(self) -> list[str]:
        """All that should not be there when everything is shipped."""
        left = [*Path(self.settings.spool_dir).rglob("*"), *raw_places.SHARED_MEMORY.glob(f"livelog-{self.process}-*")]
        return [str(path) for path in left] + [str(path) for path in self.archive.rglob("*#*")]

    def manifest(self, task_id: str) -> Manifest:
        (manifest,) = asyncio.run(Archive(self.settings.archive_url).manifests(task_id))
        return manifest

    def archived(self, task_id: str) -> list[Record]:
        """What the archive has of a task."""
        manifest = self.manifest(task_id)

        async def read() -> list[Record]:
            found = Archive(self.settings.archive_url).read(manifest)
            return [decode(line) async for batch in found for line in batch]

        return asyncio.run(read())

    def shown(self, task_id: str) -> list[Record]:
        """What a reader shows of a task, which it follows to its end."""

        async def read() -> list[Record]:
            reader = Reader(self.settings)
            try:
                return [record async for batch in reader.log(task_id, follow=True) for record in batch.records]
            finally:
                await reader.close()

        return asyncio.run(asyncio.wait_for(read(), SECONDS))

    def _attempt(self, slot: int, task_id: str, lines: int) -> None:
        attempt = Attempt(attempt=f"{slot:016x}", task_id=task_id, pid=os.getpid(), started=_AT)
        paths = {stream: str(path) for stream, path in self._paths.items()}
        begin = msgspec.json.encode({"attempt": attempt, "raw": paths})
        self._journal.append(BEGIN, 0, slot, 0, self._sizes(), begin, force=True)
        writer = AttemptWriter(self._journal, slot, self._sizes)
        for number in range(1, lines + 1):
            writer.write(STDOUT if number % 2 else STDERR, f"line {number}{self._filling}\n")
            with self._paths["stdout"].open("ab") as raw:
                raw.write(b"raw %d\n" % number)
        writer.end(_ENDING)

    def _sizes(self) -> tuple[int, int]:
        return self._paths["stdout"].stat().st_size, self._paths["stderr"].stat().st_size

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([sys.executable, *arguments], capture_output=True, timeout=SECONDS, check=False)


def check(scene: Scene, server: Valkey) -> None:
    """All is where it belongs, once, and nothing else is anywhere."""
    assert scene.left_overs() == []
    catalog = Catalog(scene.settings.database_url)
    for task_id, printed in scene.tasks().items():
        (row,) = catalog.attempts(task_id)
        assert (row.state, row.exit_code, row.lines, bool(row.ended)) == ("SUCCESS", 0, len(printed), True)
        assert bool(row.archive) == bool(printed)
        if printed:
            check_log(scene.archived(task_id), printed)
            check_log(scene.shown(task_id), printed)
            check_folder(scene, scene.manifest(task_id))
            check_stream(scene, server, task_id)
    catalog.close()
    assert asyncio.run(audit(scene.settings.archive_url)) == ["short", "long"]


def check_log(records: list[Record], printed: list[str]) -> None:
    assert [record.line for record in records if isinstance(record, Line)] == printed
    assert [record.n for record in records] == list(range(1, len(printed) + 2))
    assert isinstance(records[-1], End)
    assert not any(isinstance(record, Gap) for record in records)


def check_stream(scene: Scene, server: Valkey, task_id: str) -> None:
    """Of an archive that all can read the stream goes, and soon; else it stays for a time, with one end."""
    left = server.client.ttl(f"task:logs:{task_id}")
    if scene.settings.archive_shared:
        assert left in (-2, *range(6))
        return
    entries = [fields for _, fields in server.client.xrange(f"task:logs:{task_id}")]
    assert left > 60
    assert {fields["n"] for fields in entries if fields["type"] == "log_line_end"} == {entries[-1]["n"]}


def check_folder(scene: Scene, manifest: Manifest) -> None:
    if scene.archive.exists():
        names = {"manifest.json", *(segment.name for segment in manifest.segments)}
        assert {path.name for path in (scene.archive / manifest.path).iterdir()} == names


async def audit(url: str) -> list[str]:
    """Prove that an archive is sound; give the tasks in it."""
    checks = [checked async for checked in Audit(url).check()]
    assert [finding for checked in checks for finding in checked.findings] == []
    assert all(checked.complete for checked in checks)
    return sorted((checked.task_id for checked in checks), reverse=True)
