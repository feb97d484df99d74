"""Owns what containers reach, on an engine with the rules that it makes on every machine:
`python -m tests.orchestrator.apart`, with `long` for all of it.

Run it in a network namespace of its own, as its test does: the tests' other engines make no rules.
The real edge and the real orchestrator run in it, with their usual addresses.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import docker

from tests.harness import Conversation
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.docker_engine import EngineProcess, make_busybox
from tests.orchestrator.engine_network import OrdinaryNetwork
from tests.orchestrator.repository import Repository, serving
from tests.process import PATIENCE, Process
from tests.programs import free_port

# Since Linux 5.7 a program needs no capability to send by a device: what it sends to 127.0.0.1 then
# leaves its container, and what it sends to any address goes by a network that has no route there.
BY_DEVICE = """
import socket, sys
with socket.socket() as sock:
    sock.settimeout(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
    try:
        sock.connect((sys.argv[2], int(sys.argv[3])))
    except OSError:
        sys.exit(3)
"""
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


class Machine:
    """Edge, orchestrator and engine, and the apps web and api; db comes later."""

    def __init__(self, conversation: Conversation, folder: Path, engine: EngineProcess) -> None:
        self._conversation = conversation
        self._engine = engine
        self._folder = folder
        # The edge is for everybody, the rest listens where it does by default.
        self.edge = Process(
            conversation, folder / "fairlead.db", http_addr="0.0.0.0:0", workers="1"
        )
        self.daemon = Daemon(conversation, self.edge.db, engine.host).starts()
        self.apps = {app: Repository(folder / app) for app in ("web", "api", "db")}
        self.is_deployed("web", "web")
        self.is_deployed("api", "api")
        # As a container is published where the edge cannot reach its network.
        self.published = free_port()
        self._raw = docker.DockerClient(engine.host)
        conversation.closes_at_end(self._raw.close)
        self._other = self._raw.containers.run(
            "busybox",
            ["sh", "-c", "mkdir /www; exec httpd -f -p 8080 -h /www"],
            detach=True,
            init=True,
            network=self.container("api").attrs["HostConfig"]["NetworkMode"],
            ports={"8080/tcp": ("127.0.0.1", self.published)},
            restart_policy={"Name": "always"},
        )
        conversation.closes_at_end(lambda: self._other.remove(force=True))

    def is_deployed(self, app: str, text: str) -> None:
        self.apps[app].commits(serving(text))
        self.daemon.deploys(self.apps[app], app, domain=f"{app}.test")

    def container(self, app: str) -> Any:
        (found,) = self.daemon.containers(app)
        return found

    def address(self, app: str) -> str:
        """Where the edge finds it."""
        return self.daemon.routes()[f"{app}.test"].partition(":")[0]

    def gateway(self, app: str) -> str:
        """The machine's own address in the network of the app."""
        networks = self.container(app).attrs["NetworkSettings"]["Networks"]
        name = self.container(app).attrs["HostConfig"]["NetworkMode"]
        return str(networks[name]["Gateway"])

    def reach(
        self, app: str, address: str, port: int, host: str = "x.test", path: str = "/"
    ) -> str:
        """What a container of the app is answered there; "" if it does not come so far."""
        head = f"GET {path} HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n"
        ask = f"printf '{head}' | nc -w 2 {address} {port}"
        said = self.container(app).exec_run(["sh", "-c", ask], stderr=False)
        return str(said.output.decode())

    def connects(self, app: str, places: Iterable[tuple[str, int]]) -> list[str]:
        """To which of these addresses and ports a container of the app can connect."""
        tries = "; ".join(
            f"nc -w 2 {ip} {port} </dev/null && echo {ip} {port}" for ip, port in places
        )
        said = self.container(app).exec_run(["sh", "-c", tries], stderr=False)
        return str(said.output.decode()).splitlines()

    def found(self, app: str, name: str) -> set[str]:
        """The addresses of a name, for a container of the app."""
        look = f"nslookup -timeout=2 -retry=1 -type=a {name} 127.0.0.11"
        said = self.container(app).exec_run(["sh", "-c", look], stderr=False).output.decode()
        _, _, answers = said.partition("Name:")
        words = answers.split()
        return {word for before, word in pairwise(words) if before[:7] == "Address"}

    def by_name(self, app: str, name: str) -> list[str]:
        """The last lines that all containers of this name answer to one of the app."""
        answers = [self.reach(app, address, 8080) for address in self.found(app, name)]
        return [answer.strip().rpartition("\n")[2] for answer in answers]

    def device(self, app: str, address: str) -> str:
        """By which a container of the app sends to an address."""
        said = self.container(app).exec_run(["ip", "route", "get", address]).output.decode()
        return str(said.partition(" dev ")[2].split()[0])

    def by_device(
        self, app: str, port: int, address: str = "127.0.0.1", device: str = "eth0"
    ) -> bool:
        """Whether one that names its device reaches a port: of the machine's loopback."""
        inside = ("nsenter", "-t", str(self.container(app).attrs["State"]["Pid"]), "-n")
        tries = (sys.executable, "-c", BY_DEVICE, device, address, str(port))
        done = subprocess.run([*inside, *WITHOUT_CAPABILITIES, *tries])
        assert done.returncode in (0, 3)
        return done.returncode == 0

    def is_linked(self, app: str, to: str) -> None:
        answer = self.daemon.asks("PUT", f"/api/apps/{app}/links/{to}")
        assert answer.json() == {"app": app, "to": to, "address": f"{to}:8080", "applied": True}

    def reboots(self, *options: str) -> None:
        """The engine loses its power, and comes back with these options; all apps serve again."""
        self._engine.loses_power()
        self._engine.options += options
        self._engine.starts()
        self.until(lambda: all(self.serves(app) for app in ("web", "api")))

    def listens_for_all(self) -> tuple[int, int]:
        """The ports of an admin surface and an API beside ours that have every address."""
        edge = Process(self._conversation, self._folder / "open.db", admin_addr="0.0.0.0:0")
        daemon = Daemon(self._conversation, edge.db, self._engine.host)
        daemon.starts(addr=f"0.0.0.0:{daemon.port}")
        return edge.admin_port, daemon.port

    def serves(self, app: str) -> bool:
        return not self.daemon.suspended() and self.container(app).status == "running"

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, self.daemon.said()
            time.sleep(0.1)


def is_served(machine: Machine) -> bool:
    """The edge is public, and the app behind it is reached by its rules."""
    own = machine.gateway("web")
    return machine.reach("web", own, machine.edge.port, "api.test").endswith("\napi\n")


def is_apart(machine: Machine) -> None:
    """What holds whoever is linked. Raises AssertionError."""
    own, other = machine.gateway("web"), machine.gateway("api")
    edge, admin, api = machine.edge.port, machine.edge.admin_port, machine.daemon.port
    assert is_served(machine)
    # The address at which the edge finds the other app, one that is published for it, and ours.
    ports = (machine.published, admin, api)
    places = [(address, port) for address in (own, other, "127.0.0.1") for port in ports]
    places.append((machine.address("api"), 8080))
    assert machine.connects("web", [*places, (own, edge)]) == [f"{own} {edge}"]
    for port in ports:
        assert not machine.by_device("web", port), port
    # Nothing of this is so because nobody listens.
    for port in ports:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()


def tells(machine: Machine) -> None:
    """From the first deploy to the end of an app. Raises AssertionError."""
    is_apart(machine)
    for name in ("api", machine.container("api").name):
        assert machine.found("web", name) == set()

    machine.is_linked("web", "api")
    assert machine.by_name("web", "api") == ["api"]
    assert machine.found("api", "web") == set()
    machine.is_deployed("api", "newer")
    assert machine.by_name("web", "api") == ["newer"]
    machine.is_deployed("api", "api")

    # Without its proxy, the engine lets its bridges send to the loopback addresses.
    machine.reboots("--userland-proxy=false")
    machine.until(lambda: machine.by_name("web", "api") == ["api"] and is_served(machine))
    is_apart(machine)

    (address,) = machine.found("web", "api")
    assert machine.daemon.asks("DELETE", "/api/apps/web/links/api").json()["applied"]
    assert machine.found("web", "api") == set()
    assert machine.reach("web", address, 8080) == ""


def tells_more(machine: Machine) -> None:
    """Of a third app, of the one that calls, and of what an app leaves. Raises AssertionError."""
    machine.is_deployed("db", "db")
    machine.is_linked("web", "api")
    machine.is_linked("api", "db")
    assert machine.by_name("web", "api") == ["api"]
    assert machine.by_name("api", "db") == ["db"]
    is_apart(machine)
    # The one in the middle leads nowhere.
    assert machine.found("web", "db") == machine.found("db", "api") == set()
    for app in ("api", "db"):
        assert machine.reach(app, machine.address("web"), 8080) == ""
    (behind,) = machine.found("api", "db")
    (between,) = machine.found("web", "api")
    device = machine.device("web", between)
    assert machine.by_device("web", 8080, between, device)
    for there in (behind, machine.address("db")):
        assert not machine.by_device("web", 8080, there, device)
    assert machine.reach("db", between, 8080) == ""
    machine.is_deployed("web", "newer")
    assert machine.by_name("web", "api") == ["api"]

    # An operator who lets admin surface and API listen for all has tokens.
    admin, api = machine.listens_for_all()
    for port, path in (
        (admin, "/routes"),
        (admin, "/metrics"),
        (api, "/api/apps"),
        (api, "/metrics"),
    ):
        status = machine.reach("web", machine.gateway("web"), port, path=path).partition("\r\n")[0]
        assert status.split()[1:2] == ["401"], (path, status)

    assert machine.daemon.asks("DELETE", "/api/apps/db").status_code == 200
    assert machine.found("api", "db") == set()
    assert machine.daemon.get("/api/apps/api").json()["links"] == []
    assert ["web_api" in each.name for each in machine.daemon.networks() if "_" in each.name] == [
        True
    ]


def main(*, is_long: bool) -> None:
    """Raises AssertionError where a container reaches what it must not, or not what it may."""
    with (
        tempfile.TemporaryDirectory(prefix="apart-") as name,
        tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as own,
    ):
        folder = Path(name)
        engine = EngineProcess(Path(own), OrdinaryNetwork())
        conversation = Conversation()
        conversation.closes_at_end(engine.ends)
        try:
            engine.starts()
            make_busybox(engine.host)
            machine = Machine(conversation, folder, engine)
            tells(machine)
            if is_long:
                tells_more(machine)
        finally:
            conversation.ends()


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ.pop("DOCKER_HOST", None)
    main(is_long=sys.argv[1:] == ["long"])
