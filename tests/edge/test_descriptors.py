"""Proves that an edge with few descriptors serves on: whoever asks for many hosts, or comes in
crowds, takes nothing from a client of a healthy host.

The edge is the real program under a real `ulimit -n`; the upstream of all hosts has a whole network
of addresses (127.0.0.0/8).
"""

import asyncio
import contextlib
import itertools
import resource
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, cast

import pytest
import uvloop

from edge.errors import EdgeError
from edge.routing.store_writer import RouteWriter
from tests.edge.routing.stores import GODEPLOY, sql
from tests.harness import Conversation
from tests.messages import ok, request
from tests.network import Network
from tests.process import PATIENCE, Origin, Process

pytestmark = pytest.mark.timeout(900)

HEALTHY: Final = "healthy.test"
ASKERS: Final = 16
"""Clients that ask for many hosts, each for one at a time."""


class Origins:
    """The upstream of all hosts: answers each request, or holds `crowd` of them until all came."""

    def __init__(self, crowd: int = 1) -> None:
        self.crowd = crowd
        self.port = 0
        self.held = asyncio.Semaphore(0)  # one for each request that is held
        self.open: set[asyncio.Transport] = set()
        self.closed = asyncio.Event()  # none is open any more
        self._answers: list[asyncio.Transport] = []

    def target(self, number: int) -> str:
        """An address of its own for each host."""
        number += 1 << 16
        return f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}:{self.port}"

    def has_request(self, transport: asyncio.Transport) -> None:
        """Another one waits."""
        self._answers.append(transport)
        self.held.release()
        if len(self._answers) >= self.crowd:
            self.answers()

    def answers(self) -> None:
        """All who wait."""
        answers, self._answers = self._answers, []
        for transport in answers:
            transport.write(ok("hello"))


class Connection(asyncio.Protocol):
    """One of its connections: requests without a body, one after the other."""

    transport: asyncio.Transport

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._origins.open.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._origins.open.discard(self.transport)
        if not self._origins.open:
            self._origins.closed.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            self._received = self._received.partition(b"\r\n\r\n")[2]
            self._origins.has_request(self.transport)


@contextlib.asynccontextmanager
async def listening(origins: Origins) -> AsyncIterator[None]:
    """It can be connected to, at any address of 127.0.0.0/8."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(origins), "0.0.0.0", 0, backlog=4096)
    origins.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        if origins.open:
            origins.closed.clear()
            for transport in list(origins.open):
                transport.abort()
            await origins.closed.wait()


class Client:
    """A client of `process` that keeps its connection, and connects anew after it was closed."""

    def __init__(self, process: Process) -> None:
        self._port = process.port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def asks(self, host: str) -> int:
        """The status of the answer; 0 if there is none."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._asks(host)
        except (OSError, asyncio.IncompleteReadError):
            self.closes()
            return 0

    async def _asks(self, host: str) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request("GET /", host=host))
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ") for line in head.splitlines()[1:-1])
        await reader.readexactly(int(fields[b"content-length"]))
        if fields.get(b"connection") == b"close":
            self.closes()
        return int(head.split()[1])

    def closes(self) -> None:
        """Its connection is closed."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


def run(conversation: Coroutine[object, object, None]) -> None:
    """Plays it to its end."""

    async def play() -> None:
        await conversation
        # Closed transports tell their protocols in the loop's next rounds.
        for _ in range(5):
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())


def statistics(process: Process) -> dict[str, float]:
    """What /metrics says of the whole edge and, without a label, of its only worker."""
    found = {}
    for line in process.admin("/metrics").text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.replace('{worker="0"}', "").removeprefix("fairlead_")] = float(value)
    return found


def write(db: Path, routes: Mapping[str, str]) -> None:
    """Makes the database of these routes; 100,000 are too many for a command each."""
    sql(db, GODEPLOY)
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.executemany("INSERT INTO proxy_routes VALUES (?, ?, 0)", routes.items())


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "fairlead.db"


@pytest.fixture
def room() -> Iterator[Callable[[int], None]]:
    """Gives this process, which holds the other ends, as many descriptors as it needs."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def raises(wanted: int) -> None:
        soft, hard = before
        if soft < wanted:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            except (ValueError, PermissionError):
                pytest.skip(f"needs {wanted} file descriptors, the limit is {hard}: ulimit -Hn")

    yield raises
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class TestManyHosts:
    """Each asked once, while a client goes on asking for a healthy one."""

    @pytest.mark.parametrize(
        ("hosts", "descriptors"),
        [
            (2_000, 512),
            pytest.param(100_000, 1024, marks=pytest.mark.chaos),
            pytest.param(100_000, 20_000, marks=pytest.mark.chaos),
        ],
    )
    def test_take_nothing_from_the_client_of_another(
        self,
        conversation: Conversation,
        db: Path,
        room: Callable[[int], None],
        hosts: int,
        descriptors: int,
    ) -> None:
        room(descriptors)
        network = Network(conversation)
        routes = {f"host-{number}.test": network.target(number) for number in range(hosts)}
        write(db, {**routes, HEALTHY: network.target(hosts)})
        process = Process(
            conversation,
            db,
            descriptors=descriptors,
            workers="1",
            pool_idle="3600",  # nothing is closed because of its age
        )

        async def conversations() -> None:
            names = iter(routes)
            asked = asyncio.gather(*(ask_all(process, names) for _ in range(ASKERS)))
            assert await served_meanwhile(process, asked)
            assert sum(asked.result(), Counter()) == {200: hosts}

        run(conversations())
        (worker,) = process.workers()
        assert worker["problem"] is None
        assert worker["descriptors_limit"] == descriptors
        # What is left over is used, and no more.
        assert descriptors // 2 < worker["descriptors"] < descriptors
        assert descriptors // 2 < count_open(worker["pid"]) < descriptors
        process.gets(signal.SIGTERM)
        assert process.ends() == 0
        assert process.popen.stderr is not None
        assert b"EMFILE" not in process.popen.stderr.read()


def count_open(pid: int) -> int:
    """The descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def ask_all(process: Process, hosts: Iterator[str]) -> Counter[int]:
    """Answers to one client by their status; the hosts are shared with others."""
    client = Client(process)
    found: Counter[int] = Counter()
    for host in hosts:
        found[await client.asks(host)] += 1
    client.closes()
    return found


async def served_meanwhile(process: Process, others: "asyncio.Future[list[Counter[int]]]") -> int:
    """How often a client was served by the healthy host until `others` were done: each time.

    On a connection that it keeps, and on one that it opens for each request.
    """
    kept, fresh = Client(process), Client(process)
    served = 0
    while not others.done():
        assert await kept.asks(HEALTHY) == 200
        assert await fresh.asks(HEALTHY) == 200
        fresh.closes()
        served += 2
    kept.closes()
    return served


class TestManyIdleConnections:
    """20 targets, each asked by 240 clients at once: 4,800 connections that could be kept."""

    TARGETS = 20
    CLIENTS = 240

    @pytest.mark.parametrize("descriptors", [1024, pytest.param(4096, marks=pytest.mark.chaos)])
    def test_of_some_targets_are_closed_for_those_of_others(
        self,
        conversation: Conversation,
        db: Path,
        room: Callable[[int], None],
        descriptors: int,
    ) -> None:
        room(descriptors + 1000)

        async def conversations() -> None:
            origins = Origins(crowd=self.CLIENTS)
            async with listening(origins):
                hosts = {
                    f"host-{number}.test": origins.target(number) for number in range(self.TARGETS)
                }
                write(db, hosts)
                process = await asyncio.to_thread(
                    Process, conversation, db, descriptors=descriptors, workers="1"
                )
                clients = [Client(process) for _ in range(self.CLIENTS)]
                for host in hosts:
                    statuses = await asyncio.gather(*(client.asks(host) for client in clients))
                    assert set(statuses) == {200}
                found = await asyncio.to_thread(statistics, process)
                assert found["worker_open_fds"] <= descriptors
                assert found["idle_upstreams_closed_total"] > 0
                assert not [name for name in found if "error" in name and found[name]]
                for client in clients:
                    client.closes()

        run(conversations())


class TestNoneLeft:
    """The limit is lowered to what the worker has open: the kernel refuses whatever comes next."""

    def test_is_our_own_fault_and_told_as_that(self, conversation: Conversation, db: Path) -> None:
        origin, other = Origin(conversation), Origin(conversation)
        RouteWriter(db).set(HEALTHY, f"{origin.target},{other.target}")
        process = Process(conversation, db, workers="1")
        (pid,) = (worker["pid"] for worker in process.workers())
        client = process.connects()
        client.sends(request("GET /none", host="other.test"))
        assert client.receives_response().status == 404
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, limits[1]))
        client.sends(request("GET /", host=HEALTHY))
        answer = client.receives_response()
        assert answer.status == 503
        assert answer["Retry-After"] == "1"
        assert "LimitNOFILE" in process.until("/workers", "files open").text
        with pytest.raises(EdgeError, match=r"not its fault: .* LimitNOFILE"):
            process.asks("/reload")
        (worker,) = process.workers()
        assert "files open" in worker["problem"]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        client.sends(request("GET /", host=HEALTHY))
        assert client.receives_response().status == 200
        process.until("/readyz", "ready")
        (route,) = process.admin("/routes").json()["routes"]
        assert {target["state"] for target in route["targets"]} == {"unchecked"}
        said = process.says("EMFILE)")
        assert "LimitNOFILE" in said
        assert "over, after" in process.says("EMFILE")


class TestACrowd:
    """1,000 clients where 56 have a place."""

    CLIENTS = 1000
    DESCRIPTORS = 256

    def test_is_served_as_places_get_free(
        self, conversation: Conversation, db: Path, room: Callable[[int], None]
    ) -> None:
        room(4 * self.CLIENTS)

        async def conversations() -> None:
            origins = Origins(crowd=self.CLIENTS)  # held until `answers`
            async with listening(origins):
                RouteWriter(db).set(HEALTHY, f"127.0.0.1:{origins.port}")
                process = await asyncio.to_thread(
                    Process, conversation, db, descriptors=self.DESCRIPTORS, workers="1"
                )
                waiting = [Client(process) for _ in range(self.CLIENTS)]
                for round_ in itertools.count():
                    asked = asyncio.gather(*(client.asks(HEALTHY) for client in waiting))
                    await origins.held.acquire()
                    await has_settled(process)
                    if not round_:
                        # All places are taken, and hundreds were refused: nothing is left to do.
                        before = await worker_seconds(process)
                        for _ in range(5):
                            await has_settled(process)
                        assert await worker_seconds(process) - before < 0.5
                    origins.answers()
                    origins.crowd = 1
                    statuses = await asked
                    assert set(statuses) <= {200, 503, 0}
                    assert 200 in statuses
                    for client in waiting:
                        client.closes()
                    waiting = [
                        client
                        for client, status in zip(waiting, statuses, strict=True)
                        if status != 200
                    ]
                    if not waiting:
                        break

        run(conversations())


async def has_settled(process: Process) -> None:
    """Returns when the worker has answered for what it counts, which it does between requests."""
    await asyncio.to_thread(statistics, process)


async def worker_seconds(process: Process) -> float:
    """The processor time that the worker has taken, of no other process."""
    return (await asyncio.to_thread(statistics, process))["worker_cpu_seconds_total"]
