"""``celery-livelog exec`` with a loud program: whether every byte comes through, how fast, and in how much memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.tables import show

_BYTES = 100_000_000
_LINE = b"0123456789012345678901234567890123456789\n"
_PROGRAM = f"yes {_LINE[:-1].decode()} | head -c {_BYTES}"
_LOOK_SECONDS = 0.02
_CHUNK = 1 << 20


class _Memory:
    """The most that exec and its shipper had, in MiB, and what lay in shared memory."""

    def __init__(self, pid: int, directory: Path) -> None:
        self.exec = self.shipper = self.raw = 0
        self._pid = pid
        self._directory = str(directory)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            raw = Path("/dev/shm").glob(f"livelog-{self._pid}-*")
            self.raw = max(self.raw, sum(path.stat().st_blocks * 512 for path in raw) >> 20)
            for process in psutil.process_iter(["cmdline", "memory_info"]):
                memory = process.info["memory_info"].rss >> 20 if process.info["memory_info"] else 0
                if process.pid == self._pid:
                    self.exec = max(self.exec, memory)
                elif (process.info["cmdline"] or [""])[-1].startswith(self._directory):
                    self.shipper = max(self.shipper, memory)


def _measure(pause: float) -> tuple[float, int, int, int]:
    """Let its console be read after `pause` seconds; give seconds until all is archived, and MiB of memory."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        command = [sys.executable, "-m", "celery_livelog.cli", "exec", "--wait", "60", "--id", "loud"]
        command += ["--", "sh", "-c", _PROGRAM]
        start = time.monotonic()
        environment = {**os.environ, "LIVELOG_DIR": str(directory)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
            memory = _Memory(program.pid, directory)
            threading.Event().wait(pause)
            assert program.stdout is not None
            shown = hashlib.sha256()
            while data := program.stdout.read(_CHUNK):
                shown.update(data)
            program.wait()
            memory.stop()
        taken = time.monotonic() - start
        printed = hashlib.sha256((_LINE * (_BYTES // len(_LINE) + 1))[:_BYTES])
        assert shown.digest() == printed.digest(), "the console has not seen what was printed"
        logs = [sys.executable, "-m", "celery_livelog.cli", "logs", "--raw", "loud"]
        logged = subprocess.run(logs, env=environment, capture_output=True, check=True).stdout
        assert logged.rstrip(b"\n") == (_LINE * (_BYTES // len(_LINE) + 1))[:_BYTES], "the log has not all of it"
        return taken, memory.exec, memory.shipper, memory.raw


def main() -> None:
    """Measure with a console that reads at once, and with one that does nothing for five seconds."""
    rows = [(name, *_measure(pause)) for name, pause in (("at once", 0.0), ("after 5 s", 5.0))]
    header = ["console reads", "all shown and archived, s", "exec, MiB", "shipper, MiB", "raw file, MiB"]
    show(f"A program that prints {_BYTES // 1_000_000} MB at once, through exec", "programs", header, rows)


if __name__ == "__main__":
    main()
