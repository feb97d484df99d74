"""Owns whose request it is, as limits count: the client's, behind trusted proxies. Pure."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from starlette.datastructures import Headers

from edge.rules.client_ip import client_name, parse_client

# The longest IPv6 address (INET6_ADDRSTRLEN), "%" and the name of an interface (IFNAMSIZ).
_MAX_ADDRESS: Final = 46 + 1 + 16


class Clients:
    """`trusted_proxies` are believed about the client's address."""

    def __init__(self, trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._trusted_proxies = tuple(trusted_proxies)

    def address(self, peer: str, headers: Headers) -> str:
        """The address that limits count by: of the nearest client that is no trusted proxy."""
        named = ",".join(headers.getlist("x-forwarded-for")).split(",")
        address = peer
        while named and self._is_trusted(address):
            nearer = _address(named.pop())
            if nearer is None:
                break
            address = str(nearer)
        return address

    def _is_trusted(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(
            address in network
            for network in self._trusted_proxies
            if network.version == address.version
        )


def client_key(address: str) -> bytes:
    """What limits count as one client; all that come from no address are one."""
    try:
        return client_name(address)
    except ValueError:
        return b""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    text = text.strip().removeprefix("[").removesuffix("]")
    # The zone of an IPv6 address may be of any length, and `parse_client` keeps what it has read.
    if len(text) > _MAX_ADDRESS:
        return None
    try:
        return parse_client(text)
    except ValueError:
        return None
