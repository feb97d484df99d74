"""Owns what the address of a client means to rules about clients. Pure."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from edge.hosts import unmapped

# Bytes of an IPv6 address that name one customer: a /64 is what a single line gets, and its
# privacy extensions make it change the rest every few hours (RFC 6177, RFC 8981).
_IPV6_CUSTOMER: Final = 8


@lru_cache(maxsize=8192)
def parse_client(address: str) -> IPv4Address | IPv6Address:
    """An address in the one form that rules compare.

    Raises ValueError for what is no address; `Peer.client_address` returns none such.
    """
    return unmapped(ip_address(address))


@lru_cache(maxsize=8192)
def client_name(address: str) -> bytes:
    """What is counted as one client: an IPv4 address, or the /64 of an IPv6 address."""
    parsed = parse_client(address)
    return parsed.packed if isinstance(parsed, IPv4Address) else parsed.packed[:_IPV6_CUSTOMER]
