"""All texts as which a secret is recognised: as it is, line by line, escaped, quoted for URLs, in base64. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

#: Shorter secrets, and shorter lines of one, are ignored: they would hide half of every log.
MIN_CHARACTERS = 6
#: Characters that are looked for as a whole; what is longer is looked for in parts of this size.
_PART = 8192


def forms(secret: str | bytes) -> set[str]:
    """All forms of a secret; none when it is too short."""
    text = (secret.decode("utf-8", "surrogateescape") if isinstance(secret, bytes) else secret).strip()
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    pieces = {line[at : at + _PART] for line in lines for at in range(0, len(line), _PART)}
    pieces |= {line[-_PART:] for line in lines}
    if len(text) <= _PART:
        pieces.add(text)
    return {form for piece in pieces if len(piece) >= MIN_CHARACTERS for form in _forms(piece)}


def encoded(text: str) -> bytes:
    """A text as bytes, whatever is in it; bytes that Python could not decode become themselves again."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _forms(text: str) -> Iterator[str]:
    raw = encoded(text)
    yield text
    yield raw.decode("utf-8", "backslashreplace")  # as lines show it
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield repr("'\"" + text)[4:-1]  # as it stands in a longer text with both kinds of quotes
    yield ascii(text)[1:-1]
    yield repr(raw)[2:-1]
    yield quote(raw)
    yield quote(raw, safe="")
    yield quote_plus(raw)
    for shift, first in ((0, 0), (1, 2), (2, 3)):  # what of it no neighbour can change
        digits = base64.b64encode(bytes(shift) + raw).decode()[first : 8 * (shift + len(raw)) // 6]
        yield digits
        yield digits.replace("+", "-").replace("/", "_")
