"""Owns the simulated Docker Engine: its containers, networks and images outlive it.

It gives addresses and host ports as Docker does: those that were asked for, or the lowest that is
free at each start.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any, Final

from orchestrator.engine.container import LABEL_APP, LABEL_INSTANCE, Image
from orchestrator.engine.network import Network
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
                number = next(str(each) for each in EPHEMERAL if f"127.0.0.1:{each}" not in used)
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
