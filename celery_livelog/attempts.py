"""What is known of one attempt: one shape in journal, manifest, catalog, index and API."""

from __future__ import annotations

import msgspec


class Attempt(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One execution of a task: a first try, a retry, a redelivery, even two at once on two workers.

    Times are ISO 8601 UTC. `lines` and `bytes` count what the task printed, `skipped` what of it is in no archive.
    """

    attempt: str
    task_id: str
    name: str = ""
    worker: str = ""
    pid: int = 0
    queue: str = ""
    root_id: str = ""
    parent_id: str = ""
    group_id: str = ""
    #: The run that it belongs to, and whose that is; see `runs.Run`.
    run_id: str = ""
    account: str = ""
    site: str = ""
    retries: int = 0
    redelivered: bool = False
    args: str = ""
    #: The lease that the worker's shipper keeps up in Redis while it lives.
    lease: str = ""
    started: str = ""
    ended: str = ""
    state: str = "STARTED"
    exit_code: int | None = None
    reason: str = ""
    lines: int = 0
    bytes: int = 0
    skipped: int = 0
    #: Where the log is archived; empty while it is not, and for ever when nothing was printed.
    archive: str = ""

    @property
    def running(self) -> bool:
        """Whether no end is known."""
        return not self.ended and self.state == "STARTED"
