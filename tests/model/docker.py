"""Owns the simulated Docker Engine: its containers, networks and images outlive it.

What it says of a container goes through the real parser, and what is asked for was made by the real
`create_body`. It gives addresses and host ports as Docker does: those that were asked for, or the
lowest that is free at each start.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any, Final

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
from tests.model.kernel import Kernel

# The ports that Docker gives where none is asked for.
EPHEMERAL: Final = range(32768, 60999)
# The network of what is made without one of its own.
BRIDGE_NAME: Final = "bridge"
BRIDGE: Final = IPv4Network("172.17.0.0/16")
# Seconds from the start of a container to its app's first answer.
BOOT: Final = 0.2
# Seconds until the engine starts a container again that has died; twice as long each time.
RESTART: Final = 0.1
STOP_GRACE: Final = 0.3
# Events that the engine remembers.
REMEMBERED: Final = 256


@dataclass(eq=False)
class Box:
    """A container of the engine."""

    id: str
    name: str
    body: dict[str, Any]
    state: str = "created"
    exit_code: int = 0
    restarts: int = 0  # by the engine, in a row
    policy: str = "no"
    was_stopped: bool = False  # by a call, so that the engine leaves it
    address: str = ""  # in its network, while it runs
    ports: dict[str, str] = field(default_factory=dict)  # of the host, while it runs
    serves_from: float = 0.0
    runs: int = 0

    @property
    def labels(self) -> Mapping[str, str]:
        found: dict[str, str] = self.body["Labels"]
        return found

    @property
    def app(self) -> str:
        return self.labels.get(LABEL_APP, self.name)

    @property
    def network(self) -> str:
        return str(self.body["HostConfig"]["NetworkMode"])

    @property
    def fixed_address(self) -> str:
        endpoints = self.body["NetworkingConfig"]["EndpointsConfig"]
        ipam = endpoints.get(self.network, {}).get("IPAMConfig") or {}
        return str(ipam.get("IPv4Address", ""))

    @property
    def port(self) -> int:
        (name,) = self.body["ExposedPorts"]
        return int(name.partition("/")[0])


class Docker:
    """The engine of a machine. `reports_current`: it says where a container is now, not where it
    was made to be.
    """

    reports_current = False

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.is_up = True
        self.boxes: dict[str, Box] = {}
        self.networks: dict[str, Network] = {}
        self.images: dict[str, Image] = {}
        self.policies_work = True
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._went_away: asyncio.Event = asyncio.Event()
        self.network(BRIDGE_NAME, BRIDGE, {})

    @property
    def _chance(self) -> random.Random:
        return self.kernel.chance

    def network(self, name: str, subnet: IPv4Network, found: Mapping[str, str]) -> Network:
        number = f"{next(self._numbers):012x}"
        made = Network(number, name, (subnet,), f"br-{number}", found)
        self.networks[name] = made
        return made

    # Its own life

    def ends(self, *, in_order: bool) -> None:
        """In order it stops what runs; killed, it leaves that to the next one."""
        if not self.is_up:
            return
        if in_order:
            for box in self.running():
                self._halt(box, 143, "kill", "die", "stop")
        self.is_up = False
        self._events.clear()
        self._went_away.set()
        self._went_away = asyncio.Event()
        self.kernel.changed = True

    def starts(self) -> None:
        """What ran is gone; what shall run always is started, in any order."""
        if self.is_up:
            return
        for box in self.running():
            self._halt(box, 137)
        for box in self.boxes.values():
            if box.state == "restarting":
                box.state = "exited"
        self.is_up = True
        wanted = [
            box
            for box in self.boxes.values()
            if box.policy == "unless-stopped" and not box.was_stopped and box.state == "exited"
        ]
        self._chance.shuffle(wanted)
        if self.policies_work:
            for box in wanted:
                self._try_to_run(box)
        self.kernel.changed = True

    def power_off(self) -> None:
        """The machine is."""
        for box in self.running():
            self._halt(box, 137)
        self.ends(in_order=False)

    # Containers

    def running(self) -> list[Box]:
        return [box for box in self.boxes.values() if box.state == "running"]

    def make(self, body: dict[str, Any], name: str) -> Box:
        box = Box(f"{next(self._numbers):064x}", name, body)
        self.boxes[box.id] = box
        return box

    def run(self, box: Box) -> None:
        """Raises OSError with the engine's words."""
        if box.state == "running":
            return
        network = self.networks.get(box.network)
        if network is None:
            raise OSError(f"network {box.network} not found")
        taken = {each.address for each in self.running() if each.network == box.network}
        subnet = network.subnets[0]
        fixed = box.fixed_address
        if fixed in taken:
            raise OSError("Address already in use")
        # Whoever asks for no address gets one of the upper half, as the network was made for.
        own_half = network.labels.get(LABEL_INSTANCE) is not None
        pool = list(subnet.subnets())[1] if own_half else subnet
        address = fixed or next(
            str(each) for each in itertools.islice(pool.hosts(), 1, None) if str(each) not in taken
        )
        used = {port for each in self.running() for port in each.ports.values()}
        ports = {}
        for inner, bindings in box.body["HostConfig"]["PortBindings"].items():
            number = bindings[0]["HostPort"]
            if number in ("", "0"):
                number = next(
                    str(each) for each in EPHEMERAL if f"127.0.0.1:{each}" not in used
                )
            if f"127.0.0.1:{number}" in used:
                raise OSError("port is already allocated")
            ports[inner] = f"127.0.0.1:{number}"
        box.address, box.ports, box.state = address, ports, "running"
        box.serves_from = self.kernel.loop.time() + BOOT
        box.runs += 1
        self._say(box, "start")
        self.kernel.changed = True

    def stop(self, box: Box) -> None:
        """As a call asks for."""
        if box.state == "running":
            self._halt(box, 143, "kill", "die", "stop")
        box.was_stopped = True

    def crash(self, box: Box) -> None:
        """It ends by itself, and is started again if it shall always run."""
        self._halt(box, 1, "die")
        if self.is_up and box.policy == "unless-stopped" and self.policies_work:
            runs = box.runs
            box.state = "restarting"

            def again() -> None:
                if box.state == "restarting" and box.runs == runs and self.is_up:
                    box.state = "exited"
                    box.restarts += 1
                    self._try_to_run(box)

            self.kernel.loop.call_later(RESTART * 2 ** min(box.restarts, 8), again)

    def remove(self, box: Box) -> None:
        if box.state == "running":
            self._halt(box, 137, "kill", "die")
        del self.boxes[box.id]
        self._say(box, "destroy")

    def _try_to_run(self, box: Box) -> None:
        try:
            self.run(box)
        except OSError:
            box.state, box.exit_code = "exited", 128

    def _halt(self, box: Box, code: int, *events: str) -> None:
        box.state, box.exit_code = "exited", code
        box.address, box.ports = "", {}
        for event in events:
            self._say(box, event)
        self.kernel.changed = True

    def answers(self, address: str) -> Box | None:
        """Whose app is reached there, if any is."""
        now = self.kernel.loop.time()
        for box in self.running():
            if box.serves_from <= now and (
                f"{box.address}:{box.port}" == address or address in box.ports.values()
            ):
                return box
        return None

    def inspect(self, box: Box) -> dict[str, Any]:
        """What `GET /containers/ID/json` says."""
        body = box.body
        host = dict(body["HostConfig"])
        endpoints = dict(body["NetworkingConfig"]["EndpointsConfig"])
        if self.reports_current:
            endpoints[box.network] = {"IPAMConfig": {"IPv4Address": box.address}}
        return {
            "Id": box.id,
            "Name": f"/{box.name}",
            "Image": body["Image"],
            "RestartCount": box.restarts,
            "Config": {"Labels": body["Labels"], "Image": body["Image"]},
            "State": {
                "Status": box.state,
                "ExitCode": box.exit_code,
                "OOMKilled": False,
                "Pid": 0,
                "StartedAt": str(box.serves_from),
            },
            "HostConfig": host,
            "NetworkSettings": {"Networks": endpoints},
        }

    # Events

    def _say(self, box: Box, action: str) -> None:
        attributes = dict(box.labels)
        self._events.append({"Action": action, "Actor": {"ID": box.id, "Attributes": attributes}})
        del self._events[:-REMEMBERED]
        self._news.set()
        self._news = asyncio.Event()

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """From those that it remembers on, until it goes away."""
        went_away = self._went_away
        said: list[dict[str, Any]] = []
        while not went_away.is_set():
            new = [each for each in self._events if not any(each is old for old in said)]
            said = list(self._events)
            for event in new:
                if went_away.is_set():
                    return
                yield event
            news = self._news
            if new or said != self._events:
                await asyncio.sleep(0)
                continue
            waits = [asyncio.ensure_future(each.wait()) for each in (news, went_away)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()


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

    async def networks(self) -> list[Network]:
        found: list[Network] = await self._ask(lambda: list(self._docker.networks.values()))
        return found

    async def create_network(self, name: str, subnet: IPv4Network, app: str) -> None:
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

    async def build(  # type: ignore[override]
        self, context: Iterator[bytes], *, tag: str, labels: Mapping[str, str], **_: Any
    ) -> str:
        await asyncio.sleep(0.5)
        number = f"sha256:{len(self._docker.images):064x}"

        def add() -> None:
            self._docker.images[tag] = Image(number, (tag,), labels[LABEL_APP], 0, 0.0, 0)

        await self._ask(add)
        return number

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
        return [
            each
            for each in await self._listed(self.instance)
            if not app or each.app == app
        ]

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
