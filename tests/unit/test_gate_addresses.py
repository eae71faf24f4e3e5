"""Where a request comes from: what named proxies say is believed, and nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_livelog.errors import SettingsError
from celery_livelog.web.gate_addresses import Networks, Proxies

NAMED = Proxies(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "127.0.0.1", "192.0.2.1"),
        ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("::1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "127.0.0.1, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "192.0.2.1,10.0.0.2 , 10.0.0.3", "192.0.2.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "127.0.0.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "127.0.0.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("", "192.0.2.1", ""),
    ],
)
def test_the_address(peer: str, forwarded: str, address: str) -> None:
    """It is the last one in the list that no named proxy has; what a client itself has written there is before it."""
    assert NAMED.origin(peer, "http", {"x-forwarded-for": forwarded})[0] == address


@pytest.mark.parametrize(
    ("peer", "forwarded", "scheme"),
    [
        ("10.0.0.1", "https", "https"),
        ("10.0.0.1", "http, HTTPS", "https"),
        ("10.0.0.1", "javascript", "http"),
        ("10.0.0.1", "", "http"),
        ("192.0.2.1", "https", "http"),
    ],
)
def test_the_scheme(peer: str, forwarded: str, scheme: str) -> None:
    """It is what the nearest named proxy says, if that can be."""
    assert NAMED.origin(peer, "http", {"x-forwarded-proto": forwarded})[1] == scheme


@given(st.text(), st.text(), st.text())
def test_no_text_is_an_error(peer: str, forwarded: str, scheme: str) -> None:
    """Whatever stands in the headers, an unnamed peer is who it is."""
    headers = {"x-forwarded-for": forwarded, "x-forwarded-proto": scheme}
    assert Proxies().origin(peer, "http", headers)[1] == "http"
    NAMED.origin("10.0.0.1", "http", headers)


@pytest.mark.parametrize("name", ["proxy.example", "", "10.0.0.0/64", "*"])
def test_what_cannot_be_named(name: str) -> None:
    """A name that is no address is an error that shows what one is."""
    with pytest.raises(SettingsError, match="expected one such as"):
        Networks([name])


def test_networks() -> None:
    """An address is in a network also when it is written as one of IPv6."""
    networks = Networks(["192.0.2.7", "10.1.2.3/8"])
    assert "10.255.0.1" in networks
    assert "::ffff:192.0.2.7" in networks
    assert "192.0.2.8" not in networks
    assert "nobody" not in networks
