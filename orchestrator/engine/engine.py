"""Owns what we ask of the Docker Engine: networks, images and containers of one instance."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

import orjson
from docker import APIClient
from docker.errors import APIError, NotFound

from orchestrator.engine.base_image import triggers
from orchestrator.engine.build_leftovers import remove_containers, remove_layers
from orchestrator.engine.build_output import BuildOutput, BuiltImage
from orchestrator.engine.build_query import build_query
from orchestrator.engine.connection import (
    EngineConnection,
    EngineResponseError,
    Turn,
    explanation,
    messages,
)
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
    exposed_port,
    labels,
    parse_container,
    parse_event,
    parse_image,
)
from orchestrator.engine.frames import Demultiplexer
from orchestrator.engine.image_tree import ImageTree
from orchestrator.engine.log_tail import LogTail
from orchestrator.engine.network import Network, address_management, parse_network, parse_routes
from orchestrator.engine.open_ports import open_ports
from orchestrator.engine.written import written
from orchestrator.errors import (
    EngineUnavailableError,
    NameConflictError,
    OrchestratorError,
    PortConflictError,
    StepError,
    SubnetTakenError,
)
from orchestrator.security.redact import Redactor

# Seconds that the engine may take for the last lines of a container.
TAIL_TIMEOUT: Final = 10.0
# What the engine says when a port of the machine is another's already.
_PORT_TAKEN: Final = ("port is already allocated", "address already in use", "failed to bind port")
# What it says when a container's address in a network is another's.
_ADDRESS_TAKEN: Final = "Address already in use"
# The routes of this machine: of the network namespace that we, and so the edge, are in.
ROUTES: Final = Path("/proc/net/route")


class Engine:
    """The engine at `host` (None: DOCKER_HOST, else the usual socket), as one instance uses it.

    `redactor` knows the secrets that are in no line of a build or a container.

    Every method raises EngineUnavailableError where the engine cannot be reached, and
    OrchestratorError with the engine's words where it refuses without a better name for it.
    """

    def __init__(self, instance: str, redactor: Redactor, host: str | None = None) -> None:
        self.instance = instance
        self.redactor = redactor
        self._builds = 0  # that are running
        self._builds_lock = asyncio.Lock()  # while one begins, or leftovers are removed
        self._layers: list[str] = []  # of builds that failed
        self._connection = EngineConnection(host)

    def __repr__(self) -> str:
        return f"<Engine {self._connection.host} instance={self.instance}>"

    @property
    def host(self) -> str:
        """Where it is looked for."""
        return self._connection.host

    @property
    def is_local(self) -> bool:
        """Whether it may be on this machine: it is reached by a Unix socket."""
        return bool(self._connection.socket)

    async def ping(self) -> None:
        """Raise EngineUnavailableError, with the socket and the reason, unless it answers."""
        await self._call(lambda client: client.ping())

    async def connect(self) -> None:
        """Raise EngineUnavailableError unless it takes a new connection: one that shuts down goes
        on answering on those that it has."""
        await self._connection.in_thread(self._connection.check)

    async def close(self) -> None:
        """Wait for what is under way; nothing may be asked after it."""
        await self._connection.close()

    # Networks and images

    async def networks(self) -> list[Network]:
        """All of the engine, whoever made them."""
        return [parse_network(one) for one in await self._call(lambda client: client.networks())]

    async def create_network(
        self, name: str, subnet: IPv4Network, app: str, *, internal: bool = False
    ) -> None:
        """Make the network of an app. Raises SubnetTakenError where another one overlaps it.

        From an `internal` one nothing gets out, and no container's default route leads into it.
        """
        try:
            await self._connection.call(
                lambda client: client.create_network(
                    name,
                    driver="bridge",
                    ipam=address_management(subnet),
                    check_duplicate=True,
                    internal=internal,
                    labels=labels(self.instance, app),
                )
            )
        except APIError as error:
            reason = explanation(error)
            if "overlaps" in reason:
                raise SubnetTakenError(f"cannot use the subnet {subnet}: {reason}") from None
            raise StepError(
                "network_failed", f"cannot create the network {name}: {reason}"
            ) from None

    async def remove_network(self, network: Network) -> None:
        """Remove it. Not there, or in use, is fine.

        Raises ValueError for one that is not of this instance.
        """
        if network.labels.get(LABEL_INSTANCE) != self.instance:
            raise ValueError(f"network {network.name} belongs to another instance")
        await self._call(lambda client: client.remove_network(network.id), ignore=(403, 404, 409))

    async def join_network(
        self, network: Network, container: str, address: str, alias: str
    ) -> None:
        """Connect it, with this address; the others there know it as `alias` too, if that is any.

        A container that is gone is fine.
        """
        await self._call(
            lambda client: client.connect_container_to_network(
                container, network.id, ipv4_address=address, aliases=[alias] if alias else None
            ),
            ignore=(404,),
        )

    async def leave_network(self, name: str, container: str) -> None:
        """Disconnect it; what goes over this network ends. A container that is gone is fine."""
        await self._call(
            lambda client: client.disconnect_container_from_network(container, name),
            ignore=(404,),
        )

    async def published_ports(self) -> set[str]:
        """Where containers of any Fairlead were made to be published, as "127.0.0.1:20000"."""
        managed = {"label": f"{LABEL_MANAGED}=true"}
        listed = await self._call(lambda client: client.containers(all=True, filters=managed))
        found = await asyncio.gather(*(self.inspect(one["Id"]) for one in listed))
        return {port for each in found if each is not None for port in each.ports.values()}

    async def routed_networks(self) -> list[tuple[str, IPv4Network]]:
        """Interface and network of each route of this machine, if the engine is on it."""
        if not self.is_local:
            return []
        return parse_routes(await self._connection.in_thread(ROUTES.read_text))

    async def build(
        self,
        context: AsyncGenerator[bytes, None],
        *,
        tag: str,
        dockerfile: str,
        labels: Mapping[str, str],
        memory: int,
        cpus: float,
        timeout: float,  # noqa: ASYNC109 - a limit of the build, with an error of its own
        on_line: Callable[[str], None],
    ) -> BuiltImage:
        """The image made from `context`, a tar in pieces; `dockerfile` is a name in it.

        Base images are fetched where they are missing. A caller that is cancelled ends the build.
        Raises StepError: "build_failed", "build_timeout", "base_image_missing", "disk_full".
        """
        params = build_query(
            self.instance,
            tag=tag,
            dockerfile=dockerfile,
            labels=labels,
            memory=memory,
            cpus=cpus,
        )
        output, built = BuildOutput(self.redactor.stream()), None
        async with self._builds_lock:
            self._builds += 1
        try:
            async with (
                asyncio.timeout(timeout),
                aclosing(context),
                self._connection.stream("POST", "/build", params, context) as response,
                aclosing(messages(response)) as received,
            ):
                async for message in received:
                    for line in output.feed(message):
                        on_line(line)
        except TimeoutError:
            raise StepError(
                "build_timeout",
                f"the build timed out after {timeout:g} s at `{output.instruction}`:"
                " raise FAIRLEAD_BUILD_TIMEOUT if it needs longer\n"
                + "\n".join(output.last_lines()),
                {"instruction": output.instruction},
            ) from None
        except EngineResponseError as error:
            raise output.failure(str(error)) from None
        else:
            for line in output.flush():
                on_line(line)
            if not output.image_id:
                raise output.failure("the Docker Engine returned neither an image nor an error")
            built = BuiltImage(output.image_id, tuple(filter(None, output.stages[:-1])))
            return built
        finally:
            self._builds -= 1
            if built is None:  # also where the engine has named the image of an earlier stage
                self._layers += filter(None, output.layers)

    async def triggers(self, image: str, platform: str = "") -> list[str]:
        """What a base image adds to a build on it. Raises StepError, "base_image_missing"."""
        try:
            return await triggers(self._connection, image, platform)
        except EngineResponseError as error:
            output = BuildOutput(self.redactor.stream())
            output.instruction = f"FROM {image}"
            raise output.failure(str(error)) from None

    @property
    def has_build_leftovers(self) -> bool:
        """Whether builds have failed whose layers are still there."""
        return bool(self._layers)

    async def remove_build_leftovers(self, cache: Collection[str] = ()) -> bool:
        """Remove what builds left that failed, or whose engine or orchestrator was killed: their
        containers, and the layers that they made; and these layers of builds that went well. False
        if a build is running, which may be about to use one: ask again later.
        """
        async with self._builds_lock:
            if self._builds:
                return False
            await self._call(lambda client: remove_containers(client, self.instance))
            await self._call(lambda client: remove_layers(client, [*self._layers, *cache]))
            self._layers.clear()
        return True

    async def image_port(self, image: str) -> int | None:
        """The TCP port of the image's EXPOSE; of several 8080, else the lowest."""
        inspected = await self._call(
            lambda client: client.inspect_image(image)  # type: ignore[no-untyped-call]
        )
        return exposed_port(inspected)

    async def images(self) -> list[Image]:
        """Those that were built for this instance."""
        ours = {"label": f"{LABEL_INSTANCE}={self.instance}"}
        listed = await self._call(lambda client: client.images(filters=ours))
        return [parse_image(one) for one in listed]

    async def image_tree(self) -> ImageTree:
        """All images of the engine, whoever made them."""
        return await self._call(  # type: ignore[no-any-return]
            lambda client: ImageTree(client.images(all=True), client.containers(all=True))
        )

    async def data_root(self) -> Path | None:
        """Where it keeps images and containers, if that is on this machine."""
        found = await self._call(lambda client: client.info())
        return Path(found["DockerRootDir"]) if self.is_local else None

    async def written(self) -> dict[str, int]:
        """By app, bytes that its containers have written. It looks at each file of theirs."""
        return written(await self._call(lambda client: client.df()), self.instance)

    async def remove_image(self, image: str) -> None:
        """Remove a tag, and the image with its last one. Not there, or in use, is fine."""
        await self._call(lambda client: client.remove_image(image), ignore=(404, 409))

    # Containers

    async def create(self, spec: ContainerSpec) -> Container:
        """A container that is not started yet, with all the limits. Raises NameConflictError.

        It gets no restarts before `enable_restarts`: one that is tried ends when its app does.
        """
        body = create_body(spec, self.instance, self._connection.socket or DOCKER_SOCKET)
        try:
            made = await self._connection.call(
                lambda client: client.create_container_from_config(  # type: ignore[no-untyped-call]
                    body, spec.name
                )
            )
        except APIError as error:
            if error.status_code == 409:
                raise NameConflictError(
                    f"container name {spec.name} is already in use by a container that this deploy"
                    f" did not create: see `docker inspect {spec.name}`, and remove it if unused"
                ) from None
            reason = explanation(error)
            if "storage-opt" in reason:
                reason += ": set FAIRLEAD_CONTAINER_DISK to 0"
            raise StepError("start_failed", f"cannot create the container: {reason}") from None
        return await self._inspect_created(made["Id"])

    async def start(self, container: str) -> Container:
        """Start it; only now its address is known. Raises PortConflictError or StepError."""
        try:
            await self._connection.call(lambda client: client.start(container))
        except APIError as error:
            reason = explanation(error)
            if _ADDRESS_TAKEN in reason:
                raise StepError(
                    "address_conflict",
                    "cannot start the container: its address is another container's; see"
                    " `docker network inspect` of its network, and remove that container",
                ) from None
            if any(words in reason for words in _PORT_TAKEN):
                raise PortConflictError(f"cannot publish the port: {reason}") from None
            raise StepError("start_failed", f"cannot start the container: {reason}") from None
        return await self._inspect_created(container)

    async def enable_restarts(self, container: str) -> None:
        """From now on the engine starts it again when it ends, and with the machine."""
        policy: Any = {"Name": "unless-stopped"}  # which docker-py's types do not know
        await self._call(lambda client: client.update_container(container, restart_policy=policy))

    async def inspect(self, container: str) -> Container | None:
        """What it is now; None if there is none."""
        try:
            return parse_container(
                await self._connection.call(lambda client: client.inspect_container(container))
            )
        except NotFound:
            return None
        except APIError as error:
            raise OrchestratorError(explanation(error)) from None

    async def containers(self, app: str = "") -> list[Container]:
        """All of this instance, running or not; or only those of one app."""
        ours = {"label": self._container_labels()}
        if app:
            # Each one that is listed costs a call of its own (3 ms), as only it tells the ports.
            ours["label"].append(f"{LABEL_APP}={app}")
        listed = await self._call(lambda client: client.containers(all=True, filters=ours))
        found = await asyncio.gather(*(self.inspect(one["Id"]) for one in listed))
        return [container for container in found if container is not None]

    async def wait_until_exited(self, container: str) -> None:
        """Returns when it does not run, at once if it never did, or is gone."""
        try:
            async with self._connection.stream(
                "POST", f"/containers/{container}/wait", {"condition": "not-running"}
            ) as response:
                await response.aread()
        except EngineResponseError as error:
            if error.status != 404:
                raise

    async def stop(self, container: str, grace: float) -> None:
        """SIGTERM, and after `grace` seconds SIGKILL. Not there is fine."""
        await self._call(
            lambda client: client.stop(container, timeout=round(grace)), ignore=(304, 404)
        )

    async def remove(self, container: Container) -> None:
        """Remove it, even while it runs. Not there is fine.

        Raises ValueError for one that is not of this instance.
        """
        if container.instance != self.instance or LABEL_RELEASE not in container.labels:
            raise ValueError(f"container {container.name} belongs to another instance")
        await self._call(
            lambda client: client.remove_container(container.id, force=True, v=True),
            ignore=(404, 409),
        )

    async def open_ports(self, container: Container) -> list[tuple[str, int]] | None:
        """What its processes really listen on, as (address, port); None where that is unknown."""
        if not self._connection.socket:
            return None
        return await self._connection.in_thread(lambda: open_ports(container.id, container.pid))

    async def stats(self, container: str) -> dict[str, Any]:
        """The counters of one that runs, as `GET /containers/ID/stats` gives them at once."""
        async with self._connection.stream(
            "GET", f"/containers/{container}/stats", {"stream": "false", "one-shot": "true"}
        ) as response:
            found: dict[str, Any] = orjson.loads(await response.aread())
        return found

    # Output and events

    async def follow_logs(
        self, container: str, tail: int = 100
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """Its last lines and what follows, in pieces, each of STDOUT or STDERR.

        Ends with the container, or when the caller closes it. Raises EngineRefusalError.
        """
        async with aclosing(self._logs(container, tail, follow=True)) as pieces:
            async for piece in pieces:
                yield piece

    async def tail_logs(self, container: str, lines: int = 200, max_bytes: int = 16384) -> str:
        """The last lines of both its outputs, in order of time; what it says by now."""
        last = LogTail(max_bytes)
        try:
            async with (
                asyncio.timeout(TAIL_TIMEOUT),
                aclosing(self._logs(container, lines, follow=False)) as pieces,
            ):
                async for _, data in pieces:
                    last.feed(data)
        except (EngineResponseError, TimeoutError):
            pass  # it is gone, or says too much to wait for the end: what came is what there is
        return last.text()

    async def _logs(
        self, container: str, tail: int, *, follow: bool
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        params = {"stdout": 1, "stderr": 1, "tail": tail, "follow": int(follow)}
        demultiplexer, turn = Demultiplexer(), Turn()
        async with self._connection.stream(
            "GET", f"/containers/{container}/logs", params
        ) as response:
            async for data in response.aiter_raw():
                for piece in demultiplexer.feed(data):
                    yield piece
                    await turn.ends()

    async def events(self) -> AsyncGenerator[ContainerEvent, None]:
        """What happens to containers of this instance, from what the engine remembers on.

        It remembers its last 256 events, until it ends itself.

        Never ends by itself: raises EngineUnavailableError when the engine goes away.
        """
        wanted = {
            "type": ["container"],
            "event": ["start", "kill", "die", "stop", "destroy", "pause", "unpause"],
            "label": self._container_labels(),
        }
        async with (
            self._connection.stream(
                "GET", "/events", {"since": 1, "filters": orjson.dumps(wanted).decode()}
            ) as response,
            aclosing(messages(response)) as received,
        ):
            async for message in received:
                yield parse_event(message)
        raise EngineUnavailableError(f"lost the connection to the Docker Engine at {self.host}")

    async def _inspect_created(self, container: str) -> Container:
        found = await self.inspect(container)
        if found is None:
            raise StepError("start_failed", "the container was removed by another program")
        return found

    def _container_labels(self) -> list[str]:
        # A container inherits the labels of its image: so do those in which the engine builds, and
        # what somebody runs by hand. Only `create` says which release it is.
        return [f"{LABEL_INSTANCE}={self.instance}", LABEL_RELEASE]

    async def _call(
        self, function: Callable[[APIClient], Any], ignore: tuple[int, ...] = ()
    ) -> Any:
        """`function`'s result; None where the engine refuses with one of the statuses `ignore`."""
        try:
            return await self._connection.call(function)
        except APIError as error:
            if error.status_code in ignore:
                return None
            raise OrchestratorError(explanation(error)) from None
