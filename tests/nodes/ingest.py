"""A relay that takes logs from elsewhere, and the tokens of those who write."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery_livelog.access.tokens import Tokens
from tests.nodes.process import free_port
from tests.nodes.relay import Relay

KEY = "a key for tests that is long enough"


def token(name: str = "", seconds: float = 600.0, key: str = KEY, **what: Any) -> str:
    """A token for writing."""
    return Tokens([key]).write(expires=time.time() + seconds, name=name, **what)


class IngestRelay(Relay):
    """A relay on a port that stays when it is started again; `ingest` is where it takes logs."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self.ingest = f"ws://127.0.0.1:{self.port}/ingest"
        super().__init__(directory, {"LIVELOG_SECRET_KEY": KEY, **settings}, ["--port", str(self.port)])
