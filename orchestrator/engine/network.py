"""Owns what a network of an app or a link is to us: what one is made with, and what the engine says
of it.

Pure, but for the question whether its bridge is of this machine.
"""

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any, Final

from docker.types import IPAMConfig, IPAMPool

# Of the addresses of a subnet the lower half is ours to give; from the upper half the engine serves
# whoever is connected without an address of its own, such as a database (`docker network connect`).
_OURS: Final = 0
_OTHERS: Final = 1


@dataclass(frozen=True, slots=True)
class Network:
    """A network as the engine described it a moment ago."""

    id: str
    name: str
    subnets: tuple[IPv4Network, ...]
    bridge: str  # the name of its interface on the engine's machine
    labels: Mapping[str, str] = field(repr=False)

    @property
    def is_on_this_machine(self) -> bool:
        """Whether its bridge is an interface here: then its containers are reached directly.

        The name of the bridge is made of the network's id, which no other network has.
        """
        try:
            return socket.if_nametoindex(self.bridge) > 0
        except OSError:
            return False


def address_management(subnet: IPv4Network) -> IPAMConfig:
    """What a network with this subnet is asked for with."""
    others = list(subnet.subnets())[_OTHERS]
    return IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet), iprange=str(others))])


def parse_network(listed: Mapping[str, Any]) -> Network:
    """What one element of `GET /networks` says."""
    configs = (listed["IPAM"] or {}).get("Config") or []
    subnets = [ip_network(one["Subnet"], strict=False) for one in configs if one.get("Subnet")]
    options = listed["Options"] or {}
    return Network(
        id=listed["Id"],
        name=listed["Name"],
        subnets=tuple(one for one in subnets if isinstance(one, IPv4Network)),
        bridge=options.get("com.docker.network.bridge.name") or f"br-{listed['Id'][:12]}",
        labels=listed["Labels"] or {},
    )


def addresses(subnet: IPv4Network) -> list[IPv4Address]:
    """Those that are ours to give: not the network's own, and not the gateway's, its first."""
    lower = list(subnet.subnets())[_OURS]
    return list(lower)[2:]


def next_address(subnet: IPv4Network, last: str, taken: Iterable[str]) -> str:
    """The one that follows `last`, in a circle, and that nobody has; "" if there is none.

    So each container gets the address that was not used for the longest time.
    """
    given = [str(address) for address in addresses(subnet)]
    first = given.index(last) + 1 if last in given else 0
    in_use = set(taken)
    return next((each for each in given[first:] + given[:first] if each not in in_use), "")


def link_addresses(subnet: IPv4Network, *, is_caller: bool) -> list[str]:
    """Those in the network of a link: for the app that calls, or for the one that is called.

    Neither gets one of the other's: who knows an address as the called one's reaches nobody else.
    """
    return [str(each) for each in addresses(subnet)[0 if is_caller else 1 :: 2]]


def parse_routes(text: str) -> list[tuple[str, IPv4Network]]:
    """The interface and network of each route of /proc/net/route, but for the default ones.

    Its numbers are hexadecimal 32-bit words, each as a little-endian machine keeps it.
    """
    found = []
    for line in text.splitlines()[1:]:
        interface, destination, _, _, _, _, _, mask = line.split()[:8]
        address, bits = (bytes.fromhex(word)[::-1] for word in (destination, mask))
        prefix = int.from_bytes(bits).bit_count()
        if prefix:
            found.append((interface, IPv4Network((address, prefix), strict=False)))
    return found
