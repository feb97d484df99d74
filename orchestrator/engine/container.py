"""Owns what containers and images are to us: what one is made with, and what the engine says of it.

Pure. The words of the engine are those of its API, version 1.41.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

LABEL_MANAGED: Final = "fairlead.managed"
LABEL_APP: Final = "fairlead.app.name"
LABEL_RELEASE: Final = "fairlead.release"
LABEL_DEPLOY: Final = "fairlead.deploy"
LABEL_PORT: Final = "fairlead.port"
# A random id of one database: two Fairleads on one engine leave each other's containers alone.
LABEL_INSTANCE: Final = "fairlead.instance"

# What the images of this world need to start: those that start as root and then give that up
# (nginx, postgres), those that write where another user owns, and ports below 1024.
CAPABILITIES: Final = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETUID",
)
# Processes and threads of one container: a fork bomb stays its own.
PIDS_LIMIT: Final = 512
# Output that the engine keeps of one container: 30 MB. Unbounded logs fill disks.
LOG_OPTIONS: Final = {"max-size": "10m", "max-file": "3"}
# Bytes of shared memory of one container, whatever the engine's own default is set to. What is in
# it counts as the container's memory, as all of a tmpfs does.
SHM_SIZE: Final = 64 * 2**20
# Where a read-only container can write. Nothing there can be run: an intruder finds no place for a
# program.
TMP: Final = "/tmp"  # noqa: S108  in the container
TMP_OPTIONS: Final = "rw,noexec,nosuid,nodev,mode=1777"
# Where a container finds the engine's socket, if it may use it at all.
DOCKER_SOCKET: Final = "/var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What a container is made with. `memory` is in bytes, `cpus` in cores (0.5: half of one)."""

    name: str
    image: str
    app: str
    deploy: int
    release: str
    network: str
    address: str  # in the network, at each start the same; empty: the engine chooses
    port: int  # that the app listens on
    env: Mapping[str, str]
    memory: int
    cpus: float
    host_port: int = 0  # of 127.0.0.1, where the port is published; 0: nowhere
    bind_docker_sock: bool = False
    read_only: bool = False  # its files, but for /tmp, which is then memory
    tmp_size: int = 0  # bytes of that /tmp
    disk_size: int = 0  # bytes that it may write to its files; 0: no limit


class Endpoint(NamedTuple):
    """A container's place in a network; `network` is its id, empty until the container starts."""

    network: str
    address: str  # that was asked for, as that of its app's network


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine described it a moment ago."""

    id: str
    name: str
    app: str
    deploy: int  # 0: it has no such label
    release: str
    instance: str
    state: str  # "created", "running", "paused", "restarting", "removing", "exited" or "dead"
    exit_code: int
    oom_killed: bool
    pid: int  # of its main process on the engine's machine; 0 if none runs
    network: str
    ip: str  # that it was made with, whether it runs or not; empty: the engine chooses
    port: int  # that its app listens on
    ports: Mapping[int, str]  # of the container -> where it was made to be published
    image: str
    image_id: str
    started_at: str
    restart_count: int
    memory: int  # bytes that it may use; 0: no limit
    labels: Mapping[str, str] = field(repr=False)
    # In networks besides `network`, by their names; whoever has connected it.
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        """Whether its main process runs."""
        return self.state == "running"

    @property
    def target(self) -> str | None:
        """Where its app is reached while it runs, as "10.213.0.2:8080"; None if it cannot be.

        It is what the container was made with, and so the same at each start.
        """
        if self.ports:
            return self.ports.get(self.port)
        return f"{self.ip}:{self.port}" if self.ip else None


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was built for one of our deploys."""

    id: str
    tags: tuple[str, ...]
    app: str
    deploy: int  # 0: it has no such label
    created: float  # Unix seconds
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something has just happened to one of our containers."""

    action: str  # "start", "kill", "die", "stop", "destroy", "pause" or "unpause"
    id: str
    app: str
    deploy: int


def labels(instance: str, app: str) -> dict[str, str]:
    """The labels of whatever is made for an app."""
    return {LABEL_MANAGED: "true", LABEL_APP: app, LABEL_INSTANCE: instance}


def create_body(spec: ContainerSpec, instance: str, engine_socket: str) -> dict[str, Any]:
    """The body of `POST /containers/create`.

    The container gets no restarts: one that is tried ends when its app does. `engine_socket` is
    the path that is mounted where `spec` says that the app may rule the engine.
    """
    port = f"{spec.port}/tcp"
    binding = {"HostIp": "127.0.0.1", "HostPort": str(spec.host_port)}
    published = {port: [binding]} if spec.host_port else {}
    ipam = {"IPAMConfig": {"IPv4Address": spec.address}} if spec.address else {}
    return {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "ExposedPorts": {port: {}},
        "Labels": {
            **labels(instance, spec.app),
            LABEL_DEPLOY: str(spec.deploy),
            LABEL_RELEASE: spec.release,
            LABEL_PORT: str(spec.port),
        },
        "HostConfig": {
            "NetworkMode": spec.network,
            "PortBindings": published,
            "Binds": [f"{engine_socket}:{DOCKER_SOCKET}"] if spec.bind_docker_sock else [],
            "Memory": spec.memory,
            "MemorySwap": spec.memory,  # of both together: no swap
            "NanoCpus": round(spec.cpus * 1e9),
            "PidsLimit": PIDS_LIMIT,
            "ShmSize": SHM_SIZE,
            "StorageOpt": {"size": str(spec.disk_size)} if spec.disk_size else {},
            "ReadonlyRootfs": spec.read_only,
            "Tmpfs": {TMP: f"{TMP_OPTIONS},size={spec.tmp_size}"} if spec.read_only else {},
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": ["ALL"],
            "CapAdd": list(CAPABILITIES),
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": LOG_OPTIONS},
            # It passes signals on and reaps what apps leave: most are not made to be process 1.
            "Init": True,
        },
        "NetworkingConfig": {"EndpointsConfig": {spec.network: ipam}},
    }


def parse_container(inspected: Mapping[str, Any]) -> Container:
    """What `GET /containers/ID/json` says."""
    state, config, host = inspected["State"], inspected["Config"], inspected["HostConfig"]
    found = config["Labels"] or {}
    ports = {}
    for name, bindings in (host["PortBindings"] or {}).items():
        number, _, protocol = name.partition("/")
        if protocol == "tcp" and bindings:
            ports[int(number)] = f"{bindings[0]['HostIp']}:{bindings[0]['HostPort']}"
    network = host["NetworkMode"]
    endpoints = {
        name: Endpoint(
            endpoint.get("NetworkID", ""),
            (endpoint.get("IPAMConfig") or {}).get("IPv4Address", ""),
        )
        for name, endpoint in (inspected["NetworkSettings"]["Networks"] or {}).items()
    }
    own = endpoints.pop(network, None)
    return Container(
        id=inspected["Id"],
        name=inspected["Name"].removeprefix("/"),
        app=found.get(LABEL_APP, ""),
        deploy=_number(found, LABEL_DEPLOY),
        release=found.get(LABEL_RELEASE, ""),
        instance=found.get(LABEL_INSTANCE, ""),
        state=state["Status"],
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        pid=state["Pid"],
        network=network,
        ip=own.address if own is not None else "",
        port=_number(found, LABEL_PORT),
        ports=ports,
        image=config["Image"],
        image_id=inspected["Image"],
        started_at=state["StartedAt"],
        restart_count=inspected["RestartCount"],
        memory=host["Memory"],
        labels=found,
        endpoints=endpoints,
    )


def parse_image(listed: Mapping[str, Any]) -> Image:
    """What one element of `GET /images/json` says."""
    found = listed["Labels"] or {}
    return Image(
        id=listed["Id"],
        tags=tuple(tag for tag in listed["RepoTags"] or () if tag != "<none>:<none>"),
        app=found.get(LABEL_APP, ""),
        deploy=_number(found, LABEL_DEPLOY),
        created=float(listed["Created"]),
        size=listed["Size"],
    )


def parse_event(event: Mapping[str, Any]) -> ContainerEvent:
    """What one message of `GET /events` says of a container."""
    found = event["Actor"]["Attributes"]
    return ContainerEvent(
        event["Action"],
        event["Actor"]["ID"],
        found.get(LABEL_APP, ""),
        _number(found, LABEL_DEPLOY),
    )


def exposed_port(inspected: Mapping[str, Any]) -> int | None:
    """The port that an image's EXPOSE names: the only one, or 8080, or the lowest."""
    names = (inspected["Config"] or {}).get("ExposedPorts") or {}
    ports = {int(name.partition("/")[0]) for name in names if name.endswith("/tcp")}
    return 8080 if 8080 in ports else min(ports, default=None)


def _number(found: Mapping[str, str], label: str) -> int:
    text = found.get(label, "")
    return int(text) if text.isdecimal() else 0
