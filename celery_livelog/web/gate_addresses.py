"""Where a request comes from, also through the proxies that were named. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from celery_livelog.errors import SettingsError

_SCHEMES = ("http", "https")


def is_loopback(name: str) -> bool:
    """Whether this is a name or an address of the machine itself."""
    name = name.lower().strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _parsed(name)
    return address is not None and address.is_loopback


def is_address(name: str) -> bool:
    """Whether this is an IP address, which no other site can give a meaning of its own, unlike a name."""
    return _parsed(name.strip("[]")) is not None


class Networks:
    """Addresses and networks that were named.

    :raises SettingsError: for one that is none.
    """

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = []
        for name in named:
            try:
                self._networks.append(ip_network(name, strict=False))
            except ValueError:
                message = f"{name!r} is no address; expected one such as 10.0.0.7, or a network such as 10.0.0.0/8"
                raise SettingsError(message) from None

    def __contains__(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)


class Proxies:
    """The proxies in front of a server. What others say of themselves in such headers is not believed.

    :param named: their addresses and networks.
    """

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._named = Networks(named)

    def origin(self, peer: str, scheme: str, headers: Mapping[str, str]) -> tuple[str, str]:
        """The address and the scheme that a request has come from and by.

        ``X-Forwarded-For`` is read from its end, where the nearest proxy has written, as far as proxies were named.
        """
        address = str(_parsed(peer) or peer)
        if address not in self._named:
            return address, scheme
        for hop in reversed(headers.get("x-forwarded-for", "").split(",")):
            parsed = _parsed(hop.strip())
            if parsed is None:
                break
            address = str(parsed)
            if address not in self._named:
                break
        forwarded = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        return address, forwarded if forwarded in _SCHEMES else scheme


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address; that of IPv4 also where it is written as one of IPv6."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
