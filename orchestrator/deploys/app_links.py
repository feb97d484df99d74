"""Owns which containers are in the network of which link: where one app reaches another.

A link has a network of its own, so that no app's container is ever in another app's network, at an
address that a route names. The app that calls is in it with all of its containers from their start,
without a name. Of the app that is called only what serves is in it, under the app's name, from the
switch on: a version that has not proved to be healthy is reached by nobody.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable

from orchestrator.deploys.app_networks import AppNetworks
from orchestrator.deploys.plan import live_container
from orchestrator.engine.container import Container
from orchestrator.engine.engine import Engine
from orchestrator.engine.network import link_addresses
from orchestrator.errors import EngineUnavailableError, OrchestratorError, StepError
from orchestrator.model import Link
from orchestrator.store.store import Store

logger = logging.getLogger(__name__)


class AppLinks:
    """The links of one database, on its engine.

    Its methods raise what the engine and the store do, and StepError where a link has no room.
    """

    def __init__(self, engine: Engine, networks: AppNetworks, store: Store) -> None:
        self._engine = engine
        self._networks = networks
        self._store = store
        self._lock = asyncio.Lock()

    async def join(self, container: str, *, serves: bool) -> None:
        """Connect a container to what its app calls, and if it serves, to those who call its app.

        One that does not run is connected when it starts.
        """
        async with self._lock:
            links = await self._store.links.all()
            if not links:
                return
            containers = await self._engine.containers()
            taken = _addresses(containers)
            for found in containers:
                if found.id == container:
                    await self._connect(found, links, serves, taken)

    async def reconcile(self) -> None:
        """Every container is connected as the links say, and to no link that is no more."""
        async with self._lock:
            links = await self._store.links.all()
            holders = set(filter(Link.is_holder, await self._store.leases.holders()))
            unwanted = holders - {link.holder for link in links}
            if not links and not unwanted:
                return
            containers = await self._engine.containers()
            for holder in sorted(unwanted):
                await self._dissolve(holder, containers)
            live = await self._store.deploys.live()
            taken = _addresses(containers)
            failure: OrchestratorError | None = None
            for container in containers:
                deploy = live.get(container.app)
                serves = deploy is not None and live_container(deploy, containers) is container
                try:
                    await self._connect(container, links, serves, taken)
                except EngineUnavailableError:
                    raise
                except OrchestratorError as error:
                    failure = error  # the others get theirs
            if failure is not None:
                raise failure

    async def _connect(
        self,
        container: Container,
        links: Iterable[Link],
        serves: bool,
        taken: dict[str, set[str]],
    ) -> None:
        """`taken` has the addresses in use by the names of their networks, and gets the new one."""
        for link in links:
            is_caller = link.app == container.app
            if not is_caller and not (serves and link.to == container.app):
                continue
            network = await self._networks.of_link(link)
            given = link_addresses(network.subnets[0], is_caller=is_caller)
            endpoint = container.endpoints.get(network.name)
            if endpoint is not None:
                if endpoint.network in ("", network.id) and endpoint.address in given:
                    continue
                # By hand, without our address and name; or to a network that has been removed.
                await self._engine.leave_network(network.name, container.id)
            in_use = taken[network.name]
            address = next((each for each in given if each not in in_use), None)
            if address is None:
                raise StepError(
                    "no_address",
                    f"all addresses of {container.app} in the network {network.name} are in use:"
                    " remove containers of the app",
                )
            in_use.add(address)
            alias = "" if is_caller else container.app
            await self._engine.join_network(network, container.id, address, alias)
            fields = {"app": link.app, "to": link.to, "container": container.name}
            logger.info("container linked", extra={"fields": fields})

    async def _dissolve(self, holder: str, containers: Iterable[Container]) -> None:
        names = {self._networks.name(holder)}
        names.update(network.name for network in await self._networks.of(holder))
        for container in containers:
            for name in names.intersection(container.endpoints):
                await self._engine.leave_network(name, container.id)
                fields = {"container": container.name, "network": name}
                logger.info("container unlinked", extra={"fields": fields})
        await self._networks.remove(holder)


def _addresses(containers: Iterable[Container]) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for container in containers:
        for name, endpoint in container.endpoints.items():
            found[name].add(endpoint.address)
    return found
