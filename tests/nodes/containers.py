"""pytest-celery's nodes as processes of this machine: a `LocalProcess` is its Docker container."""

from __future__ import annotations

import shlex
import subprocess
import uuid
from collections.abc import Sequence
from signal import Signals

from pytest_celery import RedisContainer

from tests.nodes.process import LocalProcess
from tests.nodes.valkey import Valkey


class ProcessAsContainer:
    """The part of Docker's container that pytest-celery uses."""

    def __init__(self, process: LocalProcess) -> None:
        self.process = process
        self.name = process.name
        self.id = uuid.uuid4().hex
        self.attrs = {"Config": {"Hostname": "127.0.0.1"}, "NetworkSettings": {"Networks": {}, "Ports": {}}}

    @property
    def status(self) -> str:
        return "running" if self.process.running else "exited"

    def reload(self) -> None:
        """Nothing is cached."""

    def logs(self) -> bytes:
        return self.process.output().encode()

    def kill(self, signal: str | int | None = None) -> None:
        self.process.send(signal if isinstance(signal, int) else Signals[signal or "SIGKILL"])
        self.process.wait()

    def restart(self, timeout: float = 10) -> None:
        if self.process.running:
            self.process.stop(timeout)
        self.process.start()

    def exec_run(self, command: str | Sequence[str]) -> tuple[int, bytes]:
        words = shlex.split(command) if isinstance(command, str) else command
        done = subprocess.run(words, cwd=self.process.directory, env=self.process.env, capture_output=True, check=False)
        return done.returncode, done.stdout + done.stderr


class LocalRedis(RedisContainer):
    """pytest-celery's Redis, in truth a `Valkey` of this machine."""

    def __init__(self, valkey: Valkey) -> None:
        super().__init__(ProcessAsContainer(valkey))
        self._valkey = valkey

    @property
    def hostname(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return self._valkey.port

    @property
    def url(self) -> str:
        return self._valkey.url

    host_url = url
