"""What a relay knows a worker by: a token that was given, one in a file, or one of the worker's own making."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from celery_livelog.access.tokens import Tokens
from celery_livelog.settings import Settings

#: Seconds that a token of the worker's own making is good for; each connection begins with a new one.
_SECONDS = 86_400


def bearer(settings: Settings) -> Callable[[], str]:
    """Gives the token for a connection that is made now.

    A worker with the relay's ``livelog_secret_key`` signs its own, for all tasks: who has the key could make any.
    """
    given = settings.transport_token
    if not given:
        tokens, name = Tokens(settings.secret_key), f"worker on {platform.node()}"
        return lambda: tokens.write(everything=True, expires=time.time() + _SECONDS, name=name)
    if given.startswith("file:"):
        path = Path(unquote(urlsplit(given).path))
        return lambda: path.read_text().strip()
    return lambda: given
