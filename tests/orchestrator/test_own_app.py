"""A request reaches only its app: engine stopped, killed and started, machine without power, all
while every app is asked, and every answer is looked at.

Each app answers with its own name, so that a wrong answer is one of another app.
"""

import http.client
import signal
import statistics
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import docker
import pytest
from docker.errors import APIError

from tests.harness import Conversation
from tests.orchestrator import docker_engine
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.docker_engine import BUSYBOX, EngineProcess
from tests.orchestrator.repository import Repository, serving
from tests.process import Process

ASKING_THREADS = 4
ANSWER_TIMEOUT = 10.0


class FirstAnswers(NamedTuple):
    """When each app was first served by a request that had begun later than `since`."""

    since: float
    at: dict[str, float]


class Load:
    """Asks for every app in turn, from several threads, until it ends."""

    def __init__(self, apps: list[str]) -> None:
        self.port = 0  # of the edge
        self.answers: Counter[str] = Counter()  # by status, or what happened instead
        self.wrong: list[str] = []
        self._apps = apps
        self._first = FirstAnswers(time.monotonic(), {})
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask_all) for _ in range(ASKING_THREADS)]

    def begins(self) -> None:
        for thread in self._threads:
            thread.start()

    def ends(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def first_answers(self) -> FirstAnswers:
        """From now on."""
        self._first = FirstAnswers(time.monotonic(), {})
        return self._first

    def _ask_all(self) -> None:
        while not self._over.is_set():
            for app in self._apps:
                self._ask(app)

    def _ask(self, app: str) -> None:
        begun = time.monotonic()
        first = self._first
        connection = http.client.HTTPConnection("127.0.0.1", self.port, ANSWER_TIMEOUT)
        try:
            connection.request("GET", "/", headers={"Host": f"{app}.test"})
            answer = connection.getresponse()
            text = answer.read().decode().strip()
        except (OSError, http.client.HTTPException) as error:
            self.answers[type(error).__name__] += 1
            self._over.wait(0.01)
            return
        finally:
            connection.close()
        self.answers[str(answer.status)] += 1
        if answer.status == 200 and text == app:
            if begun > first.since:
                first.at.setdefault(app, time.monotonic())
        elif answer.status not in (502, 503, 504):
            self.wrong.append(f"{app}: {answer.status} {text!r}")


class Machine:
    """Edge, orchestrator and engine with some apps, under load."""

    def __init__(
        self,
        conversation: Conversation,
        folder: Path,
        engine: EngineProcess,
        count: int,
        host: str = "",
        **settings: str,
    ) -> None:
        self.engine = engine
        self.seconds: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        """From when its engine answers again to the first answer of an app, and of all apps, by
        what had happened."""
        self._conversation = conversation
        self._folder = folder
        self._boot = folder / "boot"
        self.apps = [f"app{number}" for number in range(count)]
        self._boots()
        self.edge = self._edge()
        host = host or engine.host
        self.daemon = Daemon(conversation, self.edge.db, host, **settings)
        subnets = docker_engine.app_subnets(engine.host)
        self.daemon.settings |= {"app_subnets": subnets}
        self._starts_orchestrator()
        for app in self.apps:
            repository = Repository(folder / app)
            repository.commits(serving(app))
            self.daemon.deploys(repository, app, domain=f"{app}.test")
        self.targets = self.daemon.routes()
        self.load = Load(self.apps)
        self.load.port = self.edge.port
        conversation.closes_at_end(self.load.ends)
        self.load.begins()

    def serves_again(self, after: str) -> None:
        """Every app does, where it did before, and no answer was another's."""
        first = self.load.first_answers()
        self.daemon.until(lambda: len(first.at) == len(self.apps), f"all apps serve after {after}")
        seconds = [at - first.since for at in first.at.values()]
        self.seconds[after].append((min(seconds), max(seconds)))
        self._conversation.says("test", f"after {after}: {max(seconds):.1f} s, {self.load.answers}")
        assert self.load.wrong == []
        assert self.daemon.routes() == self.targets

    def says(self) -> None:
        """What was measured."""
        for after, seconds in self.seconds.items():
            print(f"\n{len(self.apps)} apps, {len(seconds)} times, after {after}:")
            for which, each in zip(
                ("one app", "all apps"), zip(*seconds, strict=True), strict=True
            ):
                print(
                    f"  {which}: median {statistics.median(each):.1f} s, at most {max(each):.1f} s"
                )
        print(f"answers: {dict(self.load.answers)}, wrong: {len(self.load.wrong)}")

    def engine_is_stopped(self) -> None:
        self.engine.stops()
        self.engine.starts()
        self.serves_again("an engine was stopped and started")

    def engine_is_killed(self) -> None:
        self.engine.is_killed()
        self.engine.starts()
        self.serves_again("an engine was killed and started")

    def loses_power(self) -> None:
        """Everything is killed; the edge is the first to be there again, the engine the last."""
        assert self.daemon.popen is not None
        self.daemon.popen.kill()
        self.edge.popen.kill()
        self.engine.loses_power()
        self.daemon.popen.wait()
        self.edge.popen.wait()
        self._boots()
        self.edge = self._edge()
        self.load.port = self.edge.port
        self._starts_orchestrator()
        self.engine.starts()
        self.serves_again("a machine lost power")

    def _boots(self) -> None:
        self._boot.write_text(f"{uuid.uuid4()}\n")

    def _edge(self) -> Process:
        program = ("-m", "tests.orchestrator.machine", str(self._boot), "edge")
        return Process(self._conversation, self._folder / "fairlead.db", program=program)

    def _starts_orchestrator(self) -> None:
        self.daemon.starts(["-m", "tests.orchestrator.machine", str(self._boot), "orchestrator"])


@pytest.mark.timeout(240)
def test_no_answer_is_another_apps(
    own_engine: EngineProcess, conversation: Conversation, tmp_path: Path
) -> None:
    machine = Machine(conversation, tmp_path, own_engine, 5)
    assert all(not target.startswith("127.") for target in machine.targets.values())
    machine.engine_is_stopped()
    machine.engine_is_killed()
    machine.loses_power()


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_no_answer_is_another_apps_in_sixty_faults(
    own_engine: EngineProcess, conversation: Conversation, tmp_path: Path
) -> None:
    machine = Machine(conversation, tmp_path, own_engine, 10)
    for _ in range(20):
        machine.engine_is_stopped()
        machine.engine_is_killed()
        machine.loses_power()
    machine.says()


@pytest.fixture
def engine_over_tcp() -> Iterator[EngineProcess]:
    """One that may be on any machine: the networks of its containers are not reached."""
    lacks = docker_engine.what_is_missing()
    if lacks:
        pytest.skip(f"no engine of our own: {lacks}")
    with docker_engine.of_our_own(over_tcp=True) as process:
        yield process


@pytest.mark.engine
@pytest.mark.timeout(240)
def test_no_answer_is_another_apps_where_containers_are_published(
    engine_over_tcp: EngineProcess, conversation: Conversation, tmp_path: Path
) -> None:
    ports = "21000-21999"
    machine = Machine(
        conversation, tmp_path, engine_over_tcp, 3, host=engine_over_tcp.tcp, ports=ports
    )
    assert "containers are published on ports of 127.0.0.1" in machine.daemon.said()
    assert len(set(machine.targets.values())) == len(machine.apps)
    for target in machine.targets.values():
        host, _, port = target.partition(":")
        assert (host, 21000 <= int(port) <= 21999) == ("127.0.0.1", True)
    machine.engine_is_stopped()
    machine.engine_is_killed()
    machine.loses_power()
    # Nobody else is given such a port while its container runs.
    taken = next(iter(machine.targets.values())).rpartition(":")[2]
    client = docker.DockerClient(engine_over_tcp.host)
    with pytest.raises(APIError, match="already"):
        client.containers.run(BUSYBOX, "true", ports={"80/tcp": ("127.0.0.1", int(taken))})
    client.close()


def test_the_address_of_a_container_is_given_to_no_other(
    conversation: Conversation, tmp_path: Path, engine_host: str
) -> None:
    edge = Process(conversation, tmp_path / "fairlead.db", workers="1")
    daemon = Daemon(conversation, edge.db, engine_host).starts()
    repository = Repository(tmp_path / "app")
    repository.commits(serving("one"))
    deploy = daemon.deploy(daemon.deploys(repository, "app", domain="app.test")["deploy_id"])
    daemon.deploys(repository, "other", domain="other.test")
    mine, theirs = sorted(daemon.networks(), key=lambda network: "other" in network.name)
    client = docker.APIClient(engine_host)

    def made(network: str, address: str) -> str:
        config = client.create_networking_config(
            {network: client.create_endpoint_config(ipv4_address=address)}  # type: ignore[arg-type]
        )
        host = client.create_host_config(network_mode=network)
        container = client.create_container(
            BUSYBOX, "sleep 3600", host_config=host, networking_config=config
        )["Id"]
        conversation.closes_at_end(lambda: client.remove_container(container, force=True))
        return str(container)

    # The engine does not start what was made to have it, in its network or another.
    for network in (mine, theirs):
        impostor = made(network.name, deploy["address"])
        with pytest.raises(APIError):
            client.start(impostor)
    # Nor does whoever is connected by hand, without an address, get one of ours.
    guest = client.create_container(
        BUSYBOX, "sleep 3600", host_config=client.create_host_config(network_mode=mine.name)
    )["Id"]
    conversation.closes_at_end(lambda: client.remove_container(guest, force=True))
    client.start(guest)
    given = client.inspect_container(guest)["NetworkSettings"]["Networks"][mine.name]["IPAddress"]
    assert int(given.rpartition(".")[2]) % 32 >= 16
    conversation.closes_at_end(client.close)
    # Blue and green have one each, in turn.
    repository.commits(serving("two"))
    second = daemon.deploy(daemon.deploys(repository, "app", domain="app.test")["deploy_id"])
    assert second["address"] != deploy["address"]
    assert second["address"].rpartition(".")[0] == deploy["address"].rpartition(".")[0]


def test_a_network_goes_with_its_app(
    conversation: Conversation, tmp_path: Path, engine_host: str
) -> None:
    edge = Process(conversation, tmp_path / "fairlead.db", workers="1")
    daemon = Daemon(conversation, edge.db, engine_host).starts()
    repository = Repository(tmp_path / "app")
    repository.commits(serving("one"))
    first = daemon.deploys(repository, "app", domain="app.test")["routed_target"]
    (network,) = daemon.networks()
    subnet = network.attrs["IPAM"]["Config"][0]["Subnet"]
    daemon.deploys(repository, "other", domain="other.test")
    assert daemon.asks("DELETE", "/api/apps/app").status_code == 200
    assert network.name not in {each.name for each in daemon.networks()}
    # Its subnet rests: the next app gets another one.
    daemon.deploys(repository, "third", domain="third.test")
    subnets = {each.attrs["IPAM"]["Config"][0]["Subnet"] for each in daemon.networks()}
    assert subnet not in subnets
    assert set(daemon.suspended()) == {"app.test"}  # which leads nowhere
    assert daemon.routes()["app.test"] == first
    assert list(daemon.routes().values()).count(first) == 1


def test_ranges_that_the_machine_uses_itself_are_refused_with_what_to_do(
    conversation: Conversation, tmp_path: Path, engine_host: str
) -> None:
    edge = Process(conversation, tmp_path / "fairlead.db", workers="1")
    daemon = Daemon(conversation, edge.db, engine_host)
    network = daemon.engine.networks.create(f"fairlead-test-{uuid.uuid4().hex[:8]}")
    conversation.closes_at_end(network.remove)
    network.reload()
    subnet = network.attrs["IPAM"]["Config"][0]["Subnet"]
    daemon.starts(app_subnets=subnet)
    repository = Repository(tmp_path / "app")
    repository.commits(serving("one"))
    refused = daemon.is_pushed(repository, "app", domain="app.test", wait=30)
    failed = daemon.deploy(refused.json()["deploy_id"])
    assert failed["error_kind"] == "no_subnet"
    assert f"{network.name} ({subnet})" in failed["error"]
    assert "set it to private addresses" in failed["error"]
    assert daemon.ends(signal.SIGTERM) == 0
