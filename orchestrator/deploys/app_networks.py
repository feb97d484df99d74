"""Owns where containers are: the network of each app, and the place of each container in it.

An app has a subnet of its own, and each container an address in it that it keeps for its whole
life. So has a link of two apps, whose containers meet in its network and nowhere else. The engine
gives an address of a subnet to no container of another network, so what a route names is a
container of its app, or nobody.

Where the edge cannot reach the networks of the engine, a container is published on a port of this
machine instead, which is its app's alone in the same way.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from orchestrator.engine.container import LABEL_APP, LABEL_INSTANCE
from orchestrator.engine.engine import Engine
from orchestrator.engine.network import Network, next_address
from orchestrator.errors import StepError, SubnetTakenError
from orchestrator.model import Deploy, Link
from orchestrator.settings import Settings
from orchestrator.settings_syntax import APP_SUBNET_PREFIX
from orchestrator.store.leases import Leases

logger = logging.getLogger(__name__)

# Times that another one may take a subnet between our look and our call.
MAX_RACES: Final = 5

_LOOPBACK: Final = "127.0.0.1"


class AppNetworks:
    """The networks of the apps of one database, on its engine.

    Its methods raise what the engine and the store do.
    """

    def __init__(self, settings: Settings, engine: Engine, leases: Leases) -> None:
        self._settings = settings
        self._engine = engine
        self._leases = leases
        self._lock = asyncio.Lock()
        self._says_published = True  # until it was said

    def name(self, holder: str) -> str:
        """Of the network of an app or a link; of two databases, no two networks have the same."""
        return f"{self._settings.network}-{holder}-{self._engine.instance[:4]}"

    async def place(self, deploy: Deploy) -> None:
        """Decide where the next container of the deploy is, which no other has or a route names.

        One that is made anew for the same deploy gets the place of the one before, if it is free.
        Raises StepError, kind "no_subnet", "no_address", "no_port" or "network_conflict".
        """
        async with self._lock:
            network = await self._network(deploy.app)
            routed = await self._leases.routed_hosts()
            containers = await self._engine.containers(deploy.app)
            taken = {container.ip for container in containers}
            subnet = network.subnets[0]
            if not deploy.address or deploy.address in taken or _ipv4(deploy.address) not in subnet:
                taken.update(target.rpartition(":")[0] for target in routed)
                last = await self._leases.last_address(deploy.app)
                deploy.address = next_address(subnet, last, taken)
            if not deploy.address:
                raise StepError(
                    "no_address",
                    f"all addresses of the network {network.name} are in use: remove containers"
                    f" of the app ({', '.join(container.name for container in containers)})",
                )
            if self._engine.is_local and network.is_on_this_machine:
                deploy.host_port = 0
                return
            if self._says_published:
                self._says_published = False
                logger.warning(
                    "the networks of the Docker Engine cannot be reached from this machine:"
                    " containers are published on ports of 127.0.0.1",
                    extra={"fields": {"engine": self._engine.host}},
                )
            deploy.host_port = await self._port(deploy, routed)

    async def of_link(self, link: Link) -> Network:
        """The network of a link, which is made if there is none. Raises StepError, as `place`."""
        async with self._lock:
            return await self._network(link.holder)

    async def of(self, holder: str) -> list[Network]:
        """All that there are of an app or a link; FAIRLEAD_NETWORK may have been another once."""
        return [
            network
            for network in await self._engine.networks()
            if network.labels.get(LABEL_APP) == holder and self._is_ours(network)
        ]

    async def remove(self, holder: str) -> None:
        """An app is gone, with its containers and routes, or a link: nobody gets its places for
        some time. As long as somebody else's container is in its network, that stays its own."""
        async with self._lock:
            for network in await self.of(holder):
                await self._engine.remove_network(network)
            if not await self.of(holder):
                await self._leases.release(holder)

    async def _network(self, holder: str) -> Network:
        """That of an app or a link, which is made if there is none."""
        name = self.name(holder)
        for _ in range(MAX_RACES):
            networks = await self._engine.networks()
            held = [IPv4Network(each) for each in await self._leases.held(holder) if "/" in each]
            known = next((each for each in networks if each.name == name), None)
            if known is not None:
                if not self._is_ours(known) or known.subnets[:1] != tuple(held):
                    raise StepError(
                        "network_conflict",
                        f"the Docker network {name} was not made for this app: see `docker"
                        " network inspect`, and remove it if unused",
                    )
                return known
            await self._create(holder, held, networks)
        raise StepError("no_subnet", f"cannot create the network {name}: others were faster")

    async def _create(self, holder: str, held: list[IPv4Network], networks: list[Network]) -> None:
        used = [(each.name, subnet) for each in networks for subnet in each.subnets]
        used += await self._engine.routed_networks()
        routed = await self._leases.routed_hosts()
        hosts = [address for target in routed if (address := _ipv4(target)) is not None]
        others = [
            _ipv4(address)
            for container in await self._engine.containers()
            for address in (container.ip, *(each.address for each in container.endpoints.values()))
        ]

        def is_free(resource: str) -> bool:
            subnet = IPv4Network(resource)
            return not _overlapping(subnet, used) and not any(
                address in subnet for address in (*hosts, *others) if address is not None
            )

        for subnet in held:
            if not _overlapping(subnet, used):
                break
            # Another network has come meanwhile: a wiped engine, or a new route of the machine.
            await self._leases.release(holder, str(subnet))
        else:
            taken = await self._leases.take(holder, self._subnets(), is_free)
            if taken is None:
                raise StepError("no_subnet", self._why_no_subnet(used))
            subnet = IPv4Network(taken)
        try:
            await self._engine.create_network(
                self.name(holder), subnet, holder, internal=Link.is_holder(holder)
            )
        except SubnetTakenError:
            await self._leases.release(holder, str(subnet))

    def _subnets(self) -> Iterator[str]:
        for each in self._settings.app_subnets:
            yield from map(str, each.subnets(new_prefix=APP_SUBNET_PREFIX))

    def _why_no_subnet(self, used: Iterable[tuple[str, IPv4Network]]) -> str:
        ranges = ", ".join(map(str, self._settings.app_subnets))
        wide = [
            f"{name} ({network})"
            for name, network in used
            if any(network.supernet_of(each) for each in self._settings.app_subnets)
        ]
        if wide:
            return (
                f"FAIRLEAD_APP_SUBNETS ({ranges}) overlaps {', '.join(wide)} of this machine or"
                " its Docker Engine: set it to private addresses that nothing else uses"
            )
        return (
            f"all subnets of FAIRLEAD_APP_SUBNETS ({ranges}) are in use: add another range to it,"
            " or remove apps (theirs are free after an hour)"
        )

    async def _port(self, deploy: Deploy, routed: set[str]) -> int:
        """One of the app's that no container has, or one more."""
        app = deploy.app
        # That which its own route names may be its own again.
        taken = (routed - {deploy.target}) | await self._engine.published_ports()
        is_local = self._engine.is_local

        def is_free(resource: str) -> bool:
            return f"{_LOOPBACK}:{resource}" not in taken and not (
                is_local and _is_listened_on(int(resource))
            )

        held = [each for each in await self._leases.held(app) if "/" not in each]
        port = next(filter(is_free, held), None) or await self._leases.take(
            app, map(str, self._settings.ports), is_free
        )
        if port is None:
            raise StepError(
                "no_port", "all ports of FAIRLEAD_PORTS are in use: set it to a wider range"
            )
        return int(port)

    def _is_ours(self, network: Network) -> bool:
        return network.labels.get(LABEL_INSTANCE) == self._engine.instance


def _overlapping(subnet: IPv4Network, used: Iterable[tuple[str, IPv4Network]]) -> bool:
    return any(subnet.overlaps(network) for _, network in used)


def _ipv4(target: str) -> IPv4Address | None:
    try:
        return IPv4Address(target.partition(":")[0])
    except ValueError:
        return None  # a name, or IPv6


def _is_listened_on(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return True
    return False
