"""What a server counts while it serves: plain numbers, which whoever wants them reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Since the server was started, and of `sockets` how many are open, by their kind."""

    sockets: Counter[str] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    bytes: int = 0
    #: By status.
    answers: Counter[int] = field(default_factory=Counter)
    #: Of requests and sockets, by why.
    refusals: Counter[str] = field(default_factory=Counter)
