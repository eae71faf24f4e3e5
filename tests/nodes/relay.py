"""The relay of a project, and the ASGI app that serves the same."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.nodes.process import LocalProcess


class Relay(LocalProcess):
    """``celery-livelog relay`` on a free port of the loopback, answering at `url` (without a slash at the end)."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str],
        args: Sequence[str] = (),
        name: str = "relay",
    ) -> None:
        """Describe a relay.

        :param settings: environment variables such as ``LIVELOG_REDIS_URL``.
        :param args: further options of the command.
        """
        command = [sys.executable, "-m", "celery_livelog.cli", "relay", *args]
        super().__init__(name, command, directory, {"LIVELOG_RELAY_PORT": "0", **settings})
        self.url = ""

    def start(self) -> None:
        """Run the relay and wait until it listens."""
        super().start()
        self.wait_for_output("listening on ")
        self.url = re.findall(r"listening on (\S+)/ ", self.output())[-1]


class AsgiSite(LocalProcess):
    """A site of the tests under uvicorn, with the logs mounted at `url`."""

    def __init__(self, directory: Path, settings: Mapping[str, str], name: str = "asgi") -> None:
        command = [sys.executable, "-m", "uvicorn", "tests.integration.asgi_site:application", "--port", "0"]
        command += ["--app-dir", str(Path(__file__).parents[2])]
        super().__init__(name, command, directory, settings)
        self.url = ""

    def start(self) -> None:
        """Run the site and wait until it listens."""
        super().start()
        self.wait_for_output("running on ")
        self.url = re.findall(r"running on (\S+)", self.output())[-1] + "/sites/logs"
