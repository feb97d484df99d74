"""Which containers are in the network of a link, whatever was done to either meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import docker

from orchestrator.engine.container import Container, Endpoint
from orchestrator.engine.network import Network, link_addresses
from orchestrator.model import Link
from tests.orchestrator.deploys.test_reconciler import Place, place

WEB_API = Link("web", "api")


class Pair:
    """Two apps that are live, of which the one reaches the other; `raw` is a client of its own."""

    def __init__(self, here: Place, raw: docker.APIClient) -> None:
        self.here = here
        self.raw = raw
        self.links = here.services.links
        self.engine = here.services.engine
        self.network = here.services.networks.name(WEB_API.holder)

    async def begins(self, app: str) -> Container:
        """A container of it, which serves by now."""
        deploy, container = await self.here.begins(app)
        await self.here.ends(deploy)
        return container

    async def is_linked(self) -> Network:
        """Returns the network."""
        await self.here.store.links.add(WEB_API)
        await self.links.reconcile()
        (network,) = await self.here.services.networks.of(WEB_API.holder)
        return network

    async def endpoint(self, container: Container) -> Endpoint | None:
        found = await self.engine.inspect(container.id)
        assert found is not None
        return found.endpoints.get(self.network)

    def names(self, container: Container) -> list[str]:
        """What others in the network know it as."""
        found = self.raw.inspect_container(container.id)["NetworkSettings"]["Networks"]
        aliases: list[str] = found[self.network]["Aliases"] or []
        return [each for each in aliases if each not in container.id]


def in_pair(folder: Path, host: str, scene: Callable[[Pair], Awaitable[None]]) -> None:
    async def scenario() -> None:
        raw = docker.APIClient(host, version="auto")
        try:
            async with place(folder, host) as here:
                await scene(Pair(here, raw))
        finally:
            raw.close()

    asyncio.run(scenario())


def test_what_serves_has_the_name_and_what_is_new_has_none_before_the_switch(
    tmp_path: Path, engine_host: str
) -> None:
    async def scene(pair: Pair) -> None:
        web, api = await pair.begins("web"), await pair.begins("api")
        assert await pair.endpoint(web) is None
        network = await pair.is_linked()
        subnet = network.subnets[0]
        found: Any = pair.raw.inspect_network(network.id)
        assert found["Internal"]
        # Neither has an address of a network that routes name.
        assert not subnet.overlaps((await pair.here.services.networks.of("api"))[0].subnets[0])
        callers, called = (link_addresses(subnet, is_caller=each) for each in (True, False))
        assert await pair.endpoint(web) == (network.id, callers[0])
        assert await pair.endpoint(api) == (network.id, called[0])
        assert (pair.names(web), pair.names(api)) == ([], ["api"])
        new_web = await pair.begins("web")
        deploy, new_api = await pair.here.begins("api")
        assert await pair.endpoint(new_web) == (network.id, callers[1])
        assert await pair.endpoint(new_api) is None
        await pair.links.join(new_api.id, serves=True)
        await pair.here.ends(deploy)
        assert await pair.endpoint(new_api) == (network.id, called[1])
        assert pair.names(new_api) == ["api"]
        # The old one goes with its deploy, and what goes over its connections with it.
        assert await pair.endpoint(api) == (network.id, called[0])

    in_pair(tmp_path, engine_host, scene)


def test_a_link_that_was_lost_comes_back_and_one_that_is_not_wanted_goes(
    tmp_path: Path, engine_host: str
) -> None:
    async def scene(pair: Pair) -> None:
        web, api = await pair.begins("web"), await pair.begins("api")
        network = await pair.is_linked()
        before = [await pair.endpoint(each) for each in (web, api)]
        for container in (web, api):
            await pair.engine.leave_network(pair.network, container.id)
        # By hand, at an address that is nobody's, without a name.
        pair.raw.connect_container_to_network(api.id, network.id)
        await pair.here.reconciler.reconcile()
        assert [await pair.endpoint(each) for each in (web, api)] == before
        assert pair.names(api) == ["api"]
        # A network of its own that somebody has connected is not ours to take.
        theirs = pair.raw.create_network(f"{pair.network}-theirs")["Id"]
        pair.raw.connect_container_to_network(api.id, theirs)
        try:
            await pair.here.store.links.remove(WEB_API)
            await pair.here.reconciler.reconcile()
            assert await pair.endpoint(web) is None
            assert await pair.endpoint(api) is None
            left = await pair.engine.inspect(api.id)
            assert left is not None
            assert list(left.endpoints) == [f"{pair.network}-theirs"]
            assert await pair.here.services.networks.of(WEB_API.holder) == []
            assert await pair.here.store.leases.holders() == {"web", "api"}
        finally:
            pair.raw.disconnect_container_from_network(api.id, theirs)
            pair.raw.remove_network(theirs)

    in_pair(tmp_path, engine_host, scene)


def test_a_stopped_container_starts_after_its_network_was_pruned(
    tmp_path: Path, engine_host: str
) -> None:
    async def scene(pair: Pair) -> None:
        web, api = await pair.begins("web"), await pair.begins("api")
        network = await pair.is_linked()
        for container in (web, api):
            await pair.engine.stop(container.id, 0)
        pair.raw.remove_network(network.id)
        # It has ended by itself, as far as anybody has heard: it is started again.
        await pair.here.reconciler.reconcile()
        for container in (web, api):
            found = await pair.engine.inspect(container.id)
            assert found is not None
            assert found.is_running
            assert pair.network in found.endpoints
        assert pair.names(api) == ["api"]
        # The same again, and the link is gone by the time of the start.
        (network,) = await pair.here.services.networks.of(WEB_API.holder)
        for container in (web, api):
            await pair.engine.stop(container.id, 0)
        pair.raw.remove_network(network.id)
        await pair.here.store.links.remove(WEB_API)
        await pair.links.reconcile()
        assert await pair.endpoint(web) is None
        await pair.engine.start(web.id)

    in_pair(tmp_path, engine_host, scene)
