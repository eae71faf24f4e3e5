"""How a connection over which logs are written comes to its end. Pure."""

from __future__ import annotations

#: WebSocket codes; see ``docs/ingest.md``.
GOES_AWAY, UNAVAILABLE, BAD, UNAUTHORIZED, FORBIDDEN, TOO_LARGE, TOO_MANY = 1001, 1011, 4400, 4401, 4404, 4413, 4429


class Over(Exception):
    """Ends a connection with a WebSocket code, after an error message with a code in words."""

    def __init__(self, close: int, code: str, message: str) -> None:
        super().__init__(message)
        self.close = close
        self.code = code


def unauthorized(message: str) -> Over:
    """Nobody, or nobody any more."""
    return Over(UNAUTHORIZED, "unauthorized", message)
