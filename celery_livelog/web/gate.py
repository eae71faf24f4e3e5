"""Who may ask at all: a request in, a viewer or a refusal out. What that viewer may see is the door's matter.

Rules:
- a page of another origin is refused, whoever it asks for;
- a token comes in ``Authorization`` or as a WebSocket subprotocol, or in the first message; never in a URL;
- who brings a token counts as what that token says, and as nobody when it is not valid;
- who brings none is a stranger, and what strangers count as is the server's to say: nobody, unless it was told.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from celery_livelog.access.tokens import Tokens, Writer
from celery_livelog.errors import TokenError
from celery_livelog.permissions import Viewer
from celery_livelog.web.gate_addresses import Proxies
from celery_livelog.web.gate_origins import Origins
from celery_livelog.web.gate_strangers import Strangers, nobody
from celery_livelog.web.refusal import Refusal, unauthorized
from celery_livelog.web.request import Request

#: The subprotocol that a server answers with, and what the one that brings a token begins with.
SUBPROTOCOL, TOKEN_PREFIX = "livelog", "livelog.token."


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The gate of one server.

    :param tokens: what tokens are checked with.
    :param strangers: who those without a token are.
    """

    tokens: Tokens
    strangers: Strangers = nobody
    origins: Origins = field(default_factory=Origins)
    proxies: Proxies = field(default_factory=Proxies)

    def located(self, request: Request) -> Request:
        """The request with the address and scheme that it has come from and by."""
        address, scheme = self.proxies.origin(request.address, request.scheme, request.headers)
        return replace(request, address=address, scheme=scheme)

    def check_origin(self, request: Request) -> None:
        """Let pass what no page has sent, or one that may.

        :raises Refusal: for all others.
        """
        origin = request.headers.get("origin")
        if origin is not None and not self.origins.allows(origin, request.scheme, request.host):
            called = f"{request.scheme}://{request.host}"
            raise Refusal(
                403,
                f"pages of {origin[:200]!r} may not ask this server, which was called {called[:200]!r}: allow that "
                "origin, or let the proxy in between pass on Host and X-Forwarded-Proto",
            )

    async def viewer(self, request: Request) -> Viewer | None:
        """Who asks; None while that is nobody.

        :raises Refusal: for a token that is not valid, and for a stranger who may not ask.
        """
        token = token_of(request) if self.tokens else None
        if token is not None:
            return self.viewer_with(token, request.address)
        return await self.strangers(request)

    def viewer_with(self, token: str, address: str) -> Viewer:
        """Who asks with a token.

        :raises Refusal: when it is not valid.
        """
        try:
            return replace(self.tokens.viewer(token, time.time()), address=address)
        except TokenError as error:
            raise unauthorized(str(error)) from None

    def writer(self, request: Request) -> Writer | None:
        """Who writes; None while that is nobody. Raises as `viewer_with` does."""
        token = token_of(request)
        return None if token is None else self.writer_with(token)

    def writer_with(self, token: str) -> Writer:
        """Who writes with a token; raises as `viewer_with` does."""
        try:
            return self.tokens.writer(token, time.time())
        except TokenError as error:
            raise unauthorized(str(error)) from None


def token_of(request: Request) -> str | None:
    """The token that a request brings."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    for name in request.subprotocols:
        if name.startswith(TOKEN_PREFIX):
            return name.removeprefix(TOKEN_PREFIX)
    return None


def subprotocol_of(request: Request) -> str | None:
    """The subprotocol to answer with; a token is not repeated."""
    return SUBPROTOCOL if SUBPROTOCOL in request.subprotocols else None
