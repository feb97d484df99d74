"""Proves on the real program that no reader who stops can stop traffic.

Everything that a process of the edge writes for somebody else is left unread here, one after the
other: clients are served, /readyz answers, hung workers are replaced, and SIGTERM ends the edge.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.cli.exit_code import ExitCode
from edge.routing.store_writer import RouteWriter
from edge.supervisor.large_answers import MAX_LARGE
from edge.telemetry.access_log import MAX_BUFFERED
from edge.telemetry.access_record import MAX_TEXT
from edge.telemetry.standard_error import MAX_WAITING
from tests.edge.cli.command import fairlead
from tests.edge.routing.stores import count_up
from tests.harness import Client, Conversation
from tests.messages import request
from tests.process import LOOK_SECONDS, PATIENCE, SMALL_PIPE, TOKEN, Origin, Process, fill, is_alive

ROUTES = 5_000
"""Of which /routes says 0.8 MB; no socket here has room for more than 0.3."""

MSS = 1460
"""Bytes of a segment, as on Ethernet: for the large ones of the loopback the kernel holds 3 MB."""


def program(*changes: str) -> tuple[str, ...]:
    """The edge, whose supervisor waits less long for something than in earnest."""
    lines = ("import edge.supervisor.admin, edge.supervisor.slot", *changes)
    return ("-c", "\n".join((*lines, "from fairlead.__main__ import main", "main()")), "edge")


IMPATIENT = program("edge.supervisor.slot.HEARTBEAT_TIMEOUT = 4.0")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "fairlead.db"


@pytest.fixture
def origin(conversation: Conversation, db: Path) -> Origin:
    """The target of origin.test."""
    origin = Origin(conversation)
    RouteWriter(db).set("origin.test", origin.target)
    return origin


def gets(client: Client, origin: Origin) -> None:
    client.sends(request("GET /", host="origin.test"))
    assert client.receives_response().text == origin.port


def serves(process: Process, origin: Origin) -> None:
    """New clients, of all workers, are served, and it says that it is ready."""
    for _ in range(16):
        gets(process.connects(), origin)
    assert process.admin("/readyz").text == "ready"


def logs_much(process: Process, origin: Origin) -> None:
    """The leader says something of each new table, the supervisor of each odd client."""
    for _ in range(100):
        version = RouteWriter(process.db).set("b.test", origin.target)
        assert process.asks("/reload", version=version)["workers"] == 2
    is_oddly_asked(process, 100)


def is_oddly_asked(process: Process, times: int) -> None:
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", process.admin_port)) as odd:
            odd.sendall(b"?\r\n\r\n")
            odd.recv(100)


def replaces_a_hung_worker(process: Process) -> None:
    hung = process.workers()[1]["pid"]
    os.kill(hung, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE
    while is_alive(hung) or process.admin("/readyz").text != "ready":
        assert time.monotonic() < deadline, "the hung worker was not replaced"
        time.sleep(LOOK_SECONDS)


class TestStandardError:
    def test_nobody_reads_it(self, conversation: Conversation, db: Path, origin: Origin) -> None:
        process = Process(conversation, db, program=IMPATIENT)
        client = process.connects()
        process.is_not_heard()
        logs_much(process, origin)
        gets(client, origin)
        serves(process, origin)
        replaces_a_hung_worker(process)
        serves(process, origin)
        process.gets(signal.SIGTERM)
        assert process.ends() == 0

    def test_it_is_read_again(self, conversation: Conversation, db: Path, origin: Origin) -> None:
        process = Process(conversation, db)
        process.is_not_heard()
        version = RouteWriter(db).set("b.test", origin.target)
        process.asks("/reload", version=version)
        process.says(f"serving 2 routes, version {version}")

    def test_the_edge_is_upgraded(
        self, conversation: Conversation, db: Path, origin: Origin
    ) -> None:
        process = Process(conversation, db)
        process.is_not_heard()
        successor = process.asks("/upgrade")["pid"]
        assert process.ends() == 0
        serves(process, origin)
        process.is_succeeded_by(successor)

    def test_second_signals_cut(self, conversation: Conversation, db: Path, origin: Origin) -> None:
        process = Process(conversation, db)
        process.is_not_heard()
        client = process.connects()
        client.sends(b"GET / HTTP/1.1\r\n")
        process.gets(signal.SIGTERM)
        process.until("/readyz", "unavailable")
        process.gets(signal.SIGTERM)
        assert process.ends() == 0

    @pytest.mark.chaos
    @pytest.mark.timeout(300)
    def test_more_is_said_than_may_wait(
        self, conversation: Conversation, db: Path, origin: Origin
    ) -> None:
        process = Process(conversation, db)
        process.is_not_heard()
        # A line of 63 bytes each: nearly twice what may wait.
        is_oddly_asked(process, 2 * MAX_WAITING // 69)
        assert "fairlead_log_dropped_lines_total 0.0" not in process.admin("/metrics").text
        serves(process, origin)
        process.says("log lines dropped because standard error was not read")
        process.gets(signal.SIGTERM)
        process.says("stopped")
        assert process.ends() == 0


class TestAccessLog:
    TEXT = "x" * MAX_TEXT

    @pytest.fixture
    def pipe(self) -> Iterator[tuple[int, int]]:
        """A reading end that is not read, and a writing one."""
        reader, writer = os.pipe()
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
        yield reader, writer
        os.close(reader)
        os.close(writer)

    def logs_much(self, process: Process) -> None:
        """Some worker says more than may wait."""
        client = process.connects()
        line = f"GET /{self.TEXT}"
        for _ in range(MAX_BUFFERED // (2 * MAX_TEXT) + 100):
            client.sends(request(line, f"User-Agent: {self.TEXT}", host="nobody.test"))
            assert client.receives_response().status == 404

    def goes_on(self, process: Process, origin: Origin) -> None:
        self.logs_much(process)
        serves(process, origin)
        text = process.admin("/metrics").text
        assert "fairlead_access_log_dropped_lines_total 0.0" not in text
        process.gets(signal.SIGTERM)
        assert process.ends() == 0

    def test_nobody_reads_standard_output(
        self, conversation: Conversation, db: Path, origin: Origin, pipe: tuple[int, int]
    ) -> None:
        process = Process(conversation, db, stdout=pipe[1], access_log="stdout")
        self.goes_on(process, origin)

    def test_nobody_reads_the_pipe_that_is_shared_with_the_log(
        self, conversation: Conversation, db: Path, origin: Origin
    ) -> None:
        process = Process(conversation, db, access_log="/dev/stderr")
        process.is_not_heard()
        self.goes_on(process, origin)

    def test_nobody_reads_a_named_pipe(
        self, conversation: Conversation, db: Path, origin: Origin, tmp_path: Path
    ) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        conversation.closes_at_end(lambda: os.close(reader))
        process = Process(conversation, db, access_log=str(path))
        process.gets(signal.SIGUSR1)
        fill(reader)
        process.gets(signal.SIGUSR1)
        self.goes_on(process, origin)


class Asker:
    """A client of the admin API, with little room for its answer; it reads only when told to."""

    def __init__(
        self,
        conversation: Conversation,
        address: str | tuple[str, int],
        path: str,
        room: int = SMALL_PIPE,
    ) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
        else:
            self.sock = socket.socket(socket.AF_INET)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MSS)
        conversation.closes_at_end(self.sock.close)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(address)
        self.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n"
            f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
        )

    def is_answered(self) -> bool:
        """Whether it finds all that it was promised; waits for the end."""
        raw = b""
        with contextlib.suppress(ConnectionResetError):
            while received := self.sock.recv(2**16):
                raw += received
        head, _, body = raw.partition(b"\r\n\r\n")
        (length,) = (line for line in head.lower().split(b"\r\n") if b"content-length" in line)
        return len(body) == int(length.split()[1])


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.xdist_group("unread answers of the admin API")
class TestAdmin:
    """One edge for all of them, which only the last one ends: reading its routes takes as long."""

    @pytest.fixture(scope="class")
    @classmethod
    def conversation(cls) -> Iterator[Conversation]:
        conversation = Conversation()
        yield conversation
        conversation.ends()

    @pytest.fixture(scope="class")
    @classmethod
    def origin(cls, conversation: Conversation) -> Origin:
        """The target of all routes."""
        return Origin(conversation)

    @pytest.fixture(scope="class")
    @classmethod
    def process(
        cls,
        conversation: Conversation,
        origin: Origin,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Process:
        """So many routes that what is said of all does not fit into the buffers of sockets."""
        db = tmp_path_factory.mktemp("many") / "fairlead.db"
        RouteWriter(db).set("origin.test", origin.target)
        count_up(
            db,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            f" WHERE i < {ROUTES}) INSERT INTO proxy_routes (domain, target, updated_at_unix)"
            f" SELECT 'r' || i || '.test', '{origin.target}', 0 FROM n",
        )
        impatient = program("edge.supervisor.admin.STALL_TIMEOUT = 1.0")
        return Process(conversation, db, program=impatient)

    def addresses(self, process: Process) -> list[str | tuple[str, int]]:
        return [str(process.control), ("127.0.0.1", process.admin_port)]

    def is_not_read(
        self, conversation: Conversation, process: Process, origin: Origin, path: str
    ) -> None:
        """All that may be answered at once do not read; the next one has his turn all the same."""
        for address in self.addresses(process):
            stalled = [Asker(conversation, address, path) for _ in range(MAX_LARGE)]
            serves(process, origin)
            assert process.asks("/reload")["workers"] == 2
            assert Asker(conversation, address, path, 2**20).is_answered()
            # At least the one that made room was cut.
            assert not all(asker.is_answered() for asker in stalled)

    def test_nobody_reads_the_routes(
        self, conversation: Conversation, process: Process, origin: Origin
    ) -> None:
        self.is_not_read(conversation, process, origin, "/routes")

    def test_nobody_reads_the_metrics(
        self, conversation: Conversation, process: Process, origin: Origin
    ) -> None:
        client = process.connects()
        for number in range(1, 301):
            client.sends(request("GET /", host=f"r{number}.test"))
            assert client.receives_response().text == origin.port
        process.until("/metrics", 'route="r300.test"')
        self.is_not_read(conversation, process, origin, "/metrics")

    @pytest.mark.chaos
    @pytest.mark.timeout(300)
    def test_a_crowd_that_does_not_read_costs_no_memory(
        self, conversation: Conversation, process: Process, origin: Origin
    ) -> None:
        for _ in range(10):
            process.admin("/routes")
        before = resident(process.popen.pid)
        (_, address) = self.addresses(process)
        for _ in range(100):
            Asker(conversation, address, "/routes")
        serves(process, origin)
        last = Asker(conversation, address, "/routes", 2**20)
        last.sock.settimeout(4 * PATIENCE)
        assert last.is_answered()
        # All answers have 80 MB together.
        assert resident(process.popen.pid) - before < 40 * 2**20

    def test_the_edge_ends_although_nobody_reads(
        self, conversation: Conversation, process: Process, origin: Origin
    ) -> None:
        for address in self.addresses(process):
            Asker(conversation, address, "/routes")
        serves(process, origin)
        process.gets(signal.SIGTERM)
        assert process.ends() == 0


class TestSupervisor:
    def test_it_is_stopped_while_workers_serve(
        self,
        conversation: Conversation,
        db: Path,
        origin: Origin,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("edge.control.client.REPLY_TIMEOUT", 0.1)
        process = Process(conversation, db)
        client = process.connects()
        gets(client, origin)
        process.gets(signal.SIGSTOP)
        try:
            for _ in range(16):
                gets(process.connects(), origin)
            gets(client, origin)
            # What a command has written is written, and the next one can write too.
            for number in range(2):
                told = fairlead(
                    *("route", "set", f"b{number}.test", origin.target, "--db", str(db)),
                )
                assert told.exit_code == ExitCode.FAILED
                assert f"(version {number + 2}) is saved, but not served yet" in told.stderr
                assert "did not respond in time" in told.stderr
        finally:
            process.gets(signal.SIGCONT)
        assert process.asks("/reload", version=3)["version"] == 3
        process.until("/metrics", 'requests_total{code="2xx",route="origin.test"} 18.0')
        assert process.admin("/readyz").text == "ready"


class TestWorker:
    def test_it_is_stopped_while_the_supervisor_is_asked(
        self, conversation: Conversation, db: Path, origin: Origin
    ) -> None:
        process = Process(
            conversation, db, program=program("edge.supervisor.slot.PROMPT_TIMEOUT = 0.1")
        )
        served_by_the_other = self.client_of_worker_0(process, origin)
        stopped = process.workers()[1]["pid"]
        os.kill(stopped, signal.SIGSTOP)
        for path in ("/metrics", "/routes", "/workers", "/explain?url=http://origin.test/"):
            assert process.admin(path).status_code == 200
        assert process.admin("/readyz").text == "ready"
        gets(served_by_the_other, origin)
        os.kill(stopped, signal.SIGCONT)
        serves(process, origin)

    def client_of_worker_0(self, process: Process, origin: Origin) -> Client:
        """One that its kernel, which spreads them by port, gave to worker 0."""
        while True:
            client = process.connects()
            gets(client, origin)
            # Its counters are as of this answer.
            process.admin("/metrics")
            if process.workers()[0]["connections"]:
                return client


class TestSystemd:
    def test_it_does_not_read_what_it_is_told(
        self,
        conversation: Conversation,
        db: Path,
        origin: Origin,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        other.sendto(b"x", systemd.getsockname())
            monkeypatch.setenv("NOTIFY_SOCKET", systemd.getsockname())
            monkeypatch.setenv("WATCHDOG_USEC", "200000")
            process = Process(conversation, db)
            serves(process, origin)
            successor = process.asks("/upgrade")["pid"]
            assert process.ends() == 0
            serves(process, origin)
            process.is_succeeded_by(successor)


class TestCommand:
    def test_nobody_reads_what_it_prints(self, db: Path) -> None:
        reader, writer = os.pipe()
        fill(reader)
        command = [sys.executable, "-c", "from fairlead.__main__ import main; main()"]
        with subprocess.Popen(
            [*command, "route", "set", "a.test", "127.0.0.1:1", "--db", str(db)],
            stdout=writer,
        ) as blocked:
            try:
                deadline = time.monotonic() + PATIENCE
                while (
                    not db.exists()
                    or "a.test" not in fairlead("route", "ls", "--db", str(db)).stdout
                ):
                    assert time.monotonic() < deadline
                    time.sleep(LOOK_SECONDS)
                told = fairlead("route", "set", "b.test", "127.0.0.1:1", "--db", str(db))
                assert told.exit_code == ExitCode.OK
                assert blocked.poll() is None
            finally:
                blocked.kill()
        os.close(reader)
        os.close(writer)
