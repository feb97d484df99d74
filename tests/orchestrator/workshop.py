"""Owns a place in the tests' engine: an instance and a network of its own, and what is made there.

Everything that a test makes in it is removed at its end.
"""

import asyncio
import io
import json
import secrets
import tarfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import docker

from orchestrator.engine.container import LABEL_APP, LABEL_DEPLOY, Container, ContainerSpec
from orchestrator.engine.engine import Engine
from orchestrator.engine.network import next_address
from orchestrator.errors import OrchestratorError
from orchestrator.security.redact import Redactor
from orchestrator.settings_syntax import APP_SUBNET_PREFIX
from tests.orchestrator.docker_engine import app_subnets

PATIENCE = 60.0
"""Seconds that a real engine may take for anything on a busy machine."""

LOOK_SECONDS = 0.02

MEMORY = 64 * 1024 * 1024


class Workshop:
    """One instance on a real engine. `raw` is a client that checks what `engine` did."""

    def __init__(self, host: str) -> None:
        self.instance = f"test-{secrets.token_hex(4)}"
        self.network = self.instance
        self.engine = Engine(self.instance, Redactor(), host)
        self.raw = docker.APIClient(host, version="auto")
        self._app_subnets = IPv4Network(app_subnets(host))
        self._numbers = iter(range(1, 1000))
        self.subnet: IPv4Network | None = None
        self._address = ""
        self._tags: list[str] = []

    async def build(self, dockerfile: str, **limits: Any) -> str:
        """The tag of an image made with this Dockerfile."""
        tag = f"{self.instance}/app:{next(self._numbers)}"
        self._tags.append(tag)
        settings: dict[str, Any] = {
            "tag": tag,
            "dockerfile": "Dockerfile",
            "labels": {LABEL_APP: "app", LABEL_DEPLOY: "7"},
            "memory": MEMORY,
            "cpus": 1.0,
            "timeout": PATIENCE,
            "on_line": lambda line: None,
        }
        await self.engine.build(context(dockerfile), **{**settings, **limits})
        return tag

    def spec(self, image: str = "busybox:latest", **fields: Any) -> ContainerSpec:
        """What an app's container is made with, but for `fields`."""
        number = next(self._numbers)
        self._address = next_address(self.subnet, self._address, ()) if self.subnet else ""
        given = ContainerSpec(
            name=f"{self.instance}-app-{number}",
            image=image,
            app="app",
            deploy=number,
            release="r1",
            network=self.network,
            address=self._address,
            port=8080,
            env={"PORT": "8080"},
            memory=MEMORY,
            cpus=1.0,
        )
        return replace(given, **fields)

    async def runs(self, script: str, **fields: Any) -> Container:
        """A started container that runs `script` with busybox's shell."""
        await self.has_network()
        spec = self.spec(await self.shell(script), **fields)
        made = await self.engine.create(spec)
        return await self.engine.start(made.id)

    async def has_network(self) -> None:
        """Make the network, unless it is there."""
        networks = await self.engine.networks()
        if all(each.name != self.network for each in networks):
            used = [subnet for each in networks for subnet in each.subnets]
            self.subnet = next(
                subnet
                for subnet in self._app_subnets.subnets(new_prefix=APP_SUBNET_PREFIX)
                if not any(subnet.overlaps(other) for other in used)
            )
            await self.engine.create_network(self.network, self.subnet, "app")

    async def shell(self, script: str) -> str:
        """An image whose command is `script`."""
        command = json.dumps(["sh", "-c", script])
        return await self.build(f"FROM busybox:latest\nCMD {command}\n")

    async def clears(self) -> None:
        """Removes everything that was made."""
        try:
            await asyncio.gather(
                *(self.engine.remove(one) for one in await self.engine.containers())
            )
            for tag in self._tags:
                await self.engine.remove_image(tag)
            for network in self.raw.networks(names=[self.network]):
                self.raw.remove_network(network["Id"])
        finally:
            with suppress(OrchestratorError):
                await self.engine.close()
            self.raw.close()


def in_workshop(host: str, work: Callable[[Workshop], Awaitable[None]]) -> None:
    """Do `work` in a workshop of its own."""

    async def inside() -> None:
        workshop = Workshop(host)
        try:
            await work(workshop)
        finally:
            await workshop.clears()

    asyncio.run(inside())


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await holds():  # noqa: ASYNC110 - nobody tells when it changes
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


async def context(dockerfile: str) -> AsyncGenerator[bytes, None]:
    """A build context that has nothing but this Dockerfile."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile.encode())
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
    yield whole.getvalue()
