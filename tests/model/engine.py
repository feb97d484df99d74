"""Owns what the orchestrator asks of the simulated Docker Engine: the real engine's interface.

What is asked for is made by the real `create_body`, what is said of a container goes through the
real parser.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from orchestrator.engine.build_output import BuiltImage
from orchestrator.engine.container import (
    DOCKER_SOCKET,
    LABEL_APP,
    LABEL_INSTANCE,
    LABEL_MANAGED,
    LABEL_RELEASE,
    Container,
    ContainerEvent,
    ContainerSpec,
    Image,
    create_body,
    labels,
    parse_container,
    parse_event,
)
from orchestrator.engine.engine import Engine
from orchestrator.engine.image_tree import ImageTree
from orchestrator.engine.network import Network
from orchestrator.errors import (
    EngineUnavailableError,
    NameConflictError,
    OrchestratorError,
    PortConflictError,
    StepError,
    SubnetTakenError,
)
from orchestrator.security.redact import Redactor
from tests.model.docker import Box, Docker

STOP_GRACE: Final = 0.3
"""Seconds that an app takes to end when it is told to."""


class SimulatedEngine(Engine):
    """The real engine's interface, over a simulated daemon."""

    def __init__(self, instance: str, docker: Docker) -> None:
        self.instance = instance
        self.redactor = Redactor()
        self._docker = docker

    @property
    def host(self) -> str:
        return "unix:///var/run/docker.sock"

    @property
    def is_local(self) -> bool:
        return True

    async def _ask(self, function: Callable[[], Any]) -> Any:
        docker = self._docker
        await asyncio.sleep(docker.kernel.loop.pause())
        if not docker.is_up:
            raise EngineUnavailableError("cannot connect to the Docker Engine")
        result = function()
        went_away = docker._went_away
        await asyncio.sleep(docker.kernel.loop.pause())
        if went_away.is_set():
            raise EngineUnavailableError("lost the connection to the Docker Engine")
        return result

    async def ping(self) -> None:
        await self._ask(lambda: None)

    async def close(self) -> None:
        pass

    async def connect(self) -> None:
        await self._ask(lambda: None)

    @property
    def has_build_leftovers(self) -> bool:
        return False

    async def remove_build_leftovers(self, cache: Collection[str] = ()) -> bool:
        await self._ask(lambda: None)
        return True

    async def data_root(self) -> Path | None:
        await self._ask(lambda: None)
        return None

    async def image_tree(self) -> ImageTree:
        def look() -> ImageTree:
            listed = [
                {
                    "Id": image.id,
                    "ParentId": "",
                    "RepoTags": [*image.tags],
                    "Labels": {LABEL_INSTANCE: self.instance, LABEL_APP: image.app},
                    "Created": image.created,
                    "Size": image.size,
                }
                for image in self._docker.images.values()
            ]
            boxes = self._docker.boxes.values()
            return ImageTree(listed, [{"ImageID": box.body["Image"]} for box in boxes])

        tree: ImageTree = await self._ask(look)
        return tree

    async def networks(self) -> list[Network]:
        found: list[Network] = await self._ask(lambda: list(self._docker.networks.values()))
        return found

    async def create_network(
        self, name: str, subnet: IPv4Network, app: str, *, internal: bool = False
    ) -> None:
        def create() -> None:
            for other in self._docker.networks.values():
                if any(subnet.overlaps(each) for each in other.subnets):
                    raise SubnetTakenError(f"Pool overlaps with {other.name}")
            if name in self._docker.networks:
                raise StepError("network_failed", f"network with name {name} already exists")
            self._docker.network(name, subnet, labels(self.instance, app))

        await self._ask(create)

    async def remove_network(self, network: Network) -> None:
        if network.labels.get(LABEL_INSTANCE) != self.instance:
            raise ValueError(f"network {network.name} belongs to another instance")

        def remove() -> None:
            if not any(box.network == network.name for box in self._docker.running()):
                self._docker.networks.pop(network.name, None)

        await self._ask(remove)

    async def published_ports(self) -> set[str]:
        return {port for each in await self._listed("") for port in each.ports.values()}

    async def routed_networks(self) -> list[tuple[str, IPv4Network]]:
        found: list[tuple[str, IPv4Network]] = await self._ask(
            lambda: [
                (each.bridge, subnet)
                for each in self._docker.networks.values()
                for subnet in each.subnets
            ]
        )
        return found

    async def build(
        self,
        context: AsyncGenerator[bytes, None],
        *,
        tag: str,
        labels: Mapping[str, str],
        **_: Any,
    ) -> BuiltImage:
        await asyncio.sleep(0.5)
        number = f"sha256:{len(self._docker.images):064x}"

        def add() -> None:
            self._docker.images[tag] = Image(number, (tag,), labels[LABEL_APP], 0, 0.0, 0)

        await self._ask(add)
        return BuiltImage(number)

    async def image_port(self, image: str) -> int | None:
        return 8080

    async def images(self) -> list[Image]:
        found: list[Image] = await self._ask(lambda: list(self._docker.images.values()))
        return found

    async def remove_image(self, image: str) -> None:
        await self._ask(lambda: self._docker.images.pop(image, None))

    async def create(self, spec: ContainerSpec) -> Container:
        def create() -> Container:
            image = self._docker.images.get(spec.image)
            known = {each.id for each in self._docker.images.values()}
            if image is None and spec.image not in known:
                raise StepError("start_failed", f"No such image: {spec.image}")
            if any(box.name == spec.name for box in self._docker.boxes.values()):
                raise NameConflictError(f"container name {spec.name} is already in use")
            body = create_body(spec, self.instance, DOCKER_SOCKET)
            body["Image"] = image.id if image is not None else spec.image
            return self._parsed(self._docker.make(body, spec.name))

        made: Container = await self._ask(create)
        return made

    async def start(self, container: str) -> Container:
        def start() -> Container:
            box = self._docker.boxes.get(container)
            if box is None:
                raise StepError("start_failed", "No such container")
            try:
                self._docker.run(box)
            except OSError as error:
                if "Address" in str(error):
                    raise StepError("address_conflict", str(error)) from None
                if "port" in str(error):
                    raise PortConflictError(str(error)) from None
                raise StepError("start_failed", str(error)) from None
            box.was_stopped = False
            return self._parsed(box)

        started: Container = await self._ask(start)
        return started

    async def enable_restarts(self, container: str) -> None:
        def enable() -> None:
            box = self._docker.boxes.get(container)
            if box is None:
                raise OrchestratorError("No such container")
            box.policy = "unless-stopped"

        await self._ask(enable)

    async def inspect(self, container: str) -> Container | None:
        def inspect() -> Container | None:
            box = self._docker.boxes.get(container)
            return None if box is None else self._parsed(box)

        found: Container | None = await self._ask(inspect)
        return found

    async def containers(self, app: str = "") -> list[Container]:
        return [each for each in await self._listed(self.instance) if not app or each.app == app]

    async def _listed(self, instance: str) -> list[Container]:
        """Of this instance, or of all Fairleads."""
        found: list[Container] = await self._ask(
            lambda: [
                self._parsed(box)
                for box in self._docker.boxes.values()
                if LABEL_MANAGED in box.labels
                and LABEL_RELEASE in box.labels
                and instance in ("", box.labels.get(LABEL_INSTANCE))
            ]
        )
        return found

    async def wait_until_exited(self, container: str) -> None:
        docker = self._docker
        while (box := docker.boxes.get(container)) is not None and box.state == "running":
            if not docker.is_up:
                raise EngineUnavailableError("lost the connection to the Docker Engine")
            await asyncio.sleep(0.05)

    async def stop(self, container: str, grace: float) -> None:
        await self._ask(lambda: None)
        await asyncio.sleep(STOP_GRACE)

        def stop() -> None:
            box = self._docker.boxes.get(container)
            if box is not None:
                self._docker.stop(box)

        await self._ask(stop)

    async def remove(self, container: Container) -> None:
        if container.instance != self.instance:
            raise ValueError(f"container {container.name} belongs to another instance")

        def remove() -> None:
            box = self._docker.boxes.get(container.id)
            if box is not None:
                self._docker.remove(box)

        await self._ask(remove)

    async def open_ports(self, container: Container) -> list[tuple[str, int]] | None:
        return None

    async def tail_logs(self, container: str, lines: int = 200, max_bytes: int = 16384) -> str:
        await self._ask(lambda: None)
        return ""

    async def events(self) -> AsyncGenerator[ContainerEvent, None]:
        await self._ask(lambda: None)
        async for event in self._docker.events():
            attributes = event["Actor"]["Attributes"]
            if attributes.get(LABEL_INSTANCE) == self.instance and LABEL_RELEASE in attributes:
                yield parse_event(event)
        raise EngineUnavailableError("lost the connection to the Docker Engine")

    def _parsed(self, box: Box) -> Container:
        return parse_container(self._docker.inspect(box))
