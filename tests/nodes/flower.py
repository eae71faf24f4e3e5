"""A Flower of a project."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

from tests.nodes.process import LocalProcess, free_port
from tests.nodes.project import Project
from tests.nodes.waiting import wait_for


class Flower(LocalProcess):
    """``celery -A proj flower``, answering at `url` (without a slash at the end)."""

    def __init__(
        self,
        project: Project,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        name: str = "flower",
    ) -> None:
        """Describe a Flower on a free port of the loopback.

        :param args: further options of the command, such as ``--basic-auth=…`` or ``--url-prefix=…``.
        """
        self.port = free_port()
        prefix = next((arg.partition("=")[2].strip("/") for arg in args if arg.startswith("--url-prefix=")), "")
        self.url = f"http://127.0.0.1:{self.port}" + (f"/{prefix}" if prefix else "")
        command = [sys.executable, "-m", "celery", "-A", project.app.main, "flower"]
        command += ["--address=127.0.0.1", f"--port={self.port}", *args]
        super().__init__(name, command, project.directory, env)

    def start(self) -> None:
        """Run Flower and wait until it answers."""
        super().start()
        wait_for(lambda: self._answers() or not self.running, what=f"an answer of {self!r}")
        assert self.running, f"{self!r} ended:\n{self.report()}"

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthcheck", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True  # a refusal is an answer too
        except OSError:
            return False
