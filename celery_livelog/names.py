"""Names of files for what users name. Pure."""

from __future__ import annotations

import hashlib
import re

_PLAIN = re.compile(r"[0-9a-z][0-9a-z._-]{0,127}")


def safe_name(text: str) -> str:
    """A path component for a text: a plain one as it is, any other as a hash, so that no two share one.

    Plain is lower case only, for file systems that do not tell cases apart; a hash starts as no plain one can.
    """
    if _PLAIN.fullmatch(text):
        return text
    return f"_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
