"""Why a request is not answered as it was meant: a status, one sentence, and for a WebSocket the code of its close."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from celery_livelog.errors import LivelogError

_CODES = {
    400: "bad_message",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    429: "too_many",
    503: "unavailable",
}


class BrokenOff(LivelogError):
    """Raised when an answer that has begun cannot be brought to its end.

    Whoever sends it cuts the connection: an answer that ends as it should would pass for the whole log.
    """


class Refusal(LivelogError):
    """Raised when a request is not answered with 200; its text says why and what to do."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers

    @property
    def code(self) -> str:
        """The same in a word, as WebSocket messages and metrics have it."""
        return _CODES.get(self.status, "refused")

    @property
    def close_code(self) -> int:
        """The code with which a WebSocket is closed: 4403 is 403. What is only so for now is 1011."""
        return 1011 if self.status >= 500 else 4000 + self.status


def unauthorized(sentence: str = "a token is needed") -> Refusal:
    """The refusal of nobody."""
    return Refusal(401, sentence, {"WWW-Authenticate": "Bearer"})
