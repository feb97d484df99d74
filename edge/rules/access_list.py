"""Owns which clients a route is for: networks that are allowed, networks that are denied. Pure."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from edge.rules.client_ip import parse_client

# By version of IP and bits of the host part: the network parts. So a list of 10,000 networks costs
# a look-up for each length of prefix in it, and not 10,000 comparisons.
_Index = Mapping[int, Mapping[int, frozenset[int]]]


class AccessList:
    """Decides by address. Networks are texts such as `10.0.0.0/8`, already checked."""

    __slots__ = ("_allowed", "_denied", "_restricted")

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self._allowed = _index(allow)
        self._denied = _index(deny)
        self._restricted = any(self._allowed.values())

    def admits(self, address: str) -> bool:
        """Whether a client may come in. A denied one may not, whoever allows it."""
        client = parse_client(address)
        version, value = client.version, int(client)
        if _holds(self._denied[version], value):
            return False
        return not self._restricted or _holds(self._allowed[version], value)


def _index(networks: Iterable[str]) -> _Index:
    found: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
    for text in networks:
        network = ip_network(text)
        bits = network.max_prefixlen - network.prefixlen
        members = found[network.version].setdefault(bits, set())
        members.add(int(network.network_address) >> bits)
    return {
        version: {bits: frozenset(members) for bits, members in by_bits.items()}
        for version, by_bits in found.items()
    }


def _holds(networks: Mapping[int, frozenset[int]], value: int) -> bool:
    return any(value >> bits in members for bits, members in networks.items())
