"""The headers that all answers have: what browsers may do with them, and which other origins may read them."""

from __future__ import annotations

from dataclasses import replace

from celery_livelog.web.answering import Answer
from celery_livelog.web.answers import Whole
from celery_livelog.web.gate_origins import Origins
from celery_livelog.web.request import Request

_ALL = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Origin",
    "X-Content-Type-Options": "nosniff",
}
#: Styles of an embedded log are loaded without asking for more than this.
_STATIC = {"Cross-Origin-Resource-Policy": "cross-origin"}
_SHARED = {"Access-Control-Expose-Headers": "Content-Disposition, Livelog-Ended, Retry-After"}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Authorization, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}


def preflight() -> Whole:
    """What a browser asks before it sends a token from another origin."""
    return Whole("text/plain", b"", dict(_PREFLIGHT), status=204)


def with_headers(answer: Answer, request: Request, origins: Origins) -> Answer:
    """An answer with its own headers and these."""
    headers = {**_ALL, **(_STATIC if request.path.startswith("/static/") else {})}
    origin = request.headers.get("origin")
    if origin is not None and origins.allows(origin, request.scheme, request.host):
        headers |= {"Access-Control-Allow-Origin": origin, **_SHARED}  # without credentials: cookies stay at home
    return replace(answer, headers={**headers, **answer.headers})
