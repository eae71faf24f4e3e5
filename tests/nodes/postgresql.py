"""A PostgreSQL server that listens on nothing but a socket in its own directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.nodes.process import LocalProcess

_USER = "postgres"  # runs the server where the tests run as root, which PostgreSQL refuses to


class PostgreSQL(LocalProcess):
    """The server; `url` is its one database, whose user needs no password."""

    def __init__(self, directory: Path) -> None:
        """Describe a server that keeps its data in `directory`; its user must be able to enter that.

        Skips the test where PostgreSQL is not installed.
        """
        data = ["-D", str(directory / "data")]
        as_user = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"] if os.geteuid() == 0 else []
        locale = ["-E", "UTF8", "--no-locale"]
        self._create = [*as_user, _program("initdb"), *data, "-U", "livelog", "-A", "trust", *locale, "--no-sync"]
        self.url = f"postgresql+psycopg://livelog@/postgres?host={directory}"
        serve = [_program("postgres"), *data, "-k", str(directory), "-c", "listen_addresses=", "-c", "fsync=off"]
        super().__init__("postgresql", [*as_user, *serve], directory)

    def start(self) -> None:
        """Make the database at first, run the server and wait until it answers."""
        if not (self.directory / "data").exists():
            if os.geteuid() == 0:
                shutil.chown(self.directory, _USER)
            subprocess.run(self._create, check=True, cwd=self.directory, stdout=subprocess.DEVNULL)
        super().start()
        self.wait_for_output("ready to accept connections")

    def stop(self, timeout: float = 30.0) -> int:
        """End it without waiting for its clients, which SIGTERM would."""
        self.send(signal.SIGINT)
        return self.wait(timeout)


def _program(name: str) -> str:
    """The path of a program of PostgreSQL; Debian has them outside the usual places."""
    versions = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*versions, os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install postgresql")
    return found
