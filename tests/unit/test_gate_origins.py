"""Which pages may ask, and which names of itself a server believes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.errors import SettingsError
from celery_livelog.web.gate_origins import Origins

HOST = "logs.example:5556"
NAMED = Origins(["https://app.example", "http://localhost:3000/"])


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://logs.example:5556", True),
        ("HTTPS://LOGS.example:5556", True),
        ("https://app.example", True),
        ("https://app.example:443", True),
        ("http://localhost:3000", True),
        ("http://logs.example:5556", False),
        ("https://logs.example", False),
        ("https://logs.example:5557", False),
        ("https://www.logs.example:5556", False),
        ("https://example:5556", False),
        ("https://logs.example:5556.evil.example", False),
        ("https://logs.example:5556@evil.example", False),
        ("https://evil.example/https://logs.example:5556", False),
        ("https://logs.example:5556,https://evil.example", False),
        ("https://www.app.example", False),
        ("http://app.example", False),
        ("null", False),
        ("NULL", False),
        ("", False),
        ("file://", False),
        ("https://", False),
        ("https://[", False),
        ("https://logs.example:port", False),
    ],
)
def test_who_may_ask(origin: str, allowed: bool) -> None:
    """The server's own origin, scheme and port included, and the named ones; nothing that only resembles them."""
    assert NAMED.allows(origin, "https", HOST) is allowed


@pytest.mark.parametrize(("scheme", "host"), [("http", "a:80"), ("http", "a"), ("https", "a:443"), ("https", "A")])
def test_ports_that_need_not_be_said(scheme: str, host: str) -> None:
    """A scheme's usual port is the same as none."""
    assert Origins().allows(f"{scheme}://a", scheme, host)


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    """Whatever stands in the two headers, there is an answer; without a Host nothing is the server's own."""
    assert Origins().allows(text, "https", "") is False
    Origins().allows(text, "https", text)


@pytest.mark.parametrize("origin", ["app.example", "*", "null", "https://app.example/path", "ftp://app.example", ""])
def test_what_cannot_be_named(origin: str) -> None:
    """An origin that can never match is an error that shows one that can."""
    with pytest.raises(SettingsError, match=r"expected one such as https://app\.example"):
        Origins([origin])


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("relay.localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("app.example", True),
        ("www.app.example", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("evil.example", False),
        ("", False),
    ],
)
def test_names_of_the_server(name: str, known: bool) -> None:
    """A name that anybody can point here is not believed, unless it was named."""
    assert NAMED.knows(name) is known
