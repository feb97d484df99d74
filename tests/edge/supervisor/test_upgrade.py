"""Proves upgrades that go wrong: new code that hangs, processes killed in the middle, a stop in the
middle; and that the command says what has become of it.
"""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.cli.exit_code import ExitCode
from edge.control import client
from edge.control.handover import UPGRADE_TIMEOUT
from edge.errors import EdgeError
from edge.routing.store_writer import RouteWriter
from fairlead.__main__ import main
from tests.edge.supervisor.faults import Faults, restarted, until_none_is_left
from tests.harness import Client, Conversation, Upstream, UpstreamConnection, exchange
from tests.messages import ok, request
from tests.process import LOOK_SECONDS, PATIENCE, Process, is_alive, is_worker, processes_of


@pytest.fixture
def db(tmp_path: Path, upstream: Upstream) -> Path:
    """A database with one route."""
    path = tmp_path / "fairlead.db"
    RouteWriter(path).set("app.test", upstream.target)
    return path


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Code that can be made to hang; every edge of the test is of that code."""
    faults = Faults(tmp_path / "faults")
    for name, text in faults.environ.items():
        monkeypatch.setenv(name, text)
    return faults


@pytest.fixture
def process(conversation: Conversation, db: Path, faults: Faults) -> Process:
    """An edge with two workers, which drains for a second at most, and waits no longer to kill."""
    faults.patch(
        "if role == 'supervisor':\n"
        "    from edge.supervisor import supervisor\n"
        "    supervisor.KILL_AFTER = 0.5\n"
    )
    return Process(conversation, db, drain_timeout="1")


def upgrade(process: Process) -> Result:
    """What the command `fairlead edge upgrade` says."""
    return CliRunner().invoke(main, ["edge", "upgrade", "--db", str(process.db)])


def family(process: Process) -> set[int]:
    """The processes of an edge that serves."""
    return {process.popen.pid, *(worker["pid"] for worker in process.workers())}


class TestHangingCode:
    @pytest.mark.parametrize(
        ("role", "how"),
        [
            ("worker", "stops"),
            pytest.param("worker", "loops", marks=pytest.mark.chaos),
            ("supervisor", "stops"),
            pytest.param("supervisor", "loops", marks=pytest.mark.chaos),
        ],
    )
    def test_it_is_ended_as_a_whole_and_the_old_edge_goes_on(
        self, process: Process, faults: Faults, upstream: Upstream, role: str, how: str
    ) -> None:
        old = family(process)
        faults.begin(role, how)
        with pytest.raises(EdgeError, match=r"did not serve within 0\.5 s"):
            process.asks("/upgrade", timeout=0.5)
        until_none_is_left(process.db, *old)
        assert family(process) == old
        exchange(process.connects(), upstream)
        faults.end()
        pid = process.asks("/upgrade")["pid"]
        assert process.ends() == 0
        process.is_succeeded_by(pid)
        until_none_is_left(process.db)
        process.is_succeeded_by_nobody()

    def test_it_is_ended_by_the_kernel_when_the_old_edge_is_killed_meanwhile(
        self, conversation: Conversation, db: Path, faults: Faults, upstream: Upstream
    ) -> None:
        faults.patch(
            "if role == 'supervisor':\n"
            "    from edge.supervisor import upgrade\n"
            "    upgrade.LIMIT_MARGIN = 8 - upgrade.UPGRADE_TIMEOUT\n"
        )
        process = Process(conversation, db)
        faults.begin("supervisor", "loops")
        process.gets(signal.SIGUSR2)
        faults.until_hanging(1)
        process.gets(signal.SIGKILL)
        process.popen.wait(PATIENCE)
        faults.end()
        until_none_is_left(process.db)
        exchange(restarted(conversation, process).connects(), upstream)

    def test_a_worker_of_it_that_is_well_finishes_what_it_has_begun(
        self, conversation: Conversation, db: Path, faults: Faults, upstream: Upstream
    ) -> None:
        process = Process(conversation, db)
        workers: set[bytes] = set()
        while len(workers) < 2:
            workers.add(begins(process, upstream).ends())
        # The second worker of the new edge is late.
        faults.patch(
            "import time\n"
            "if role == 'worker':\n"
            "    try: os.open(f'{here}/first', os.O_CREAT | os.O_EXCL)\n"
            "    except FileExistsError:\n"
            "        while not read('let'): time.sleep(0.02)\n"
        )
        process.gets(signal.SIGUSR2)
        while (slow := begins(process, upstream)).worker in workers:
            slow.ends()
        process.gets(signal.SIGTERM)
        for _ in (*workers, slow.worker):
            process.says("draining")
        faults.let()
        slow.ends()
        assert process.ends() == 0
        until_none_is_left(process.db)


@dataclass
class Begun:
    """A request in flight: `worker` is the part of its id that is the worker's own."""

    client: Client
    connection: UpstreamConnection
    worker: bytes

    def ends(self) -> bytes:
        """It is answered; whose it was."""
        self.connection.sends(ok("slow", "Connection: close"))
        assert self.client.receives_response().text == "slow"
        return self.worker


def begins(process: Process, upstream: Upstream) -> Begun:
    """A request on connections of its own."""
    client = process.connects()
    client.sends(request("GET /slow", "Connection: close"))
    connection = upstream.accepts()
    found = re.search(rb"X-Request-Id: (\w+)-", connection.receives_request().raw)
    assert found is not None
    return Begun(client, connection, found[1])


def is_edge(pid: int) -> bool:
    try:
        return b"\0edge\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def successor_of(process: Process) -> int:
    """The new edge of an upgrade that has begun."""
    deadline = time.monotonic() + PATIENCE
    while True:
        children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children")
        for pid in map(int, children.read_text().split()):
            if is_edge(pid) and not is_worker(pid):
                return pid
        assert time.monotonic() < deadline, "no upgrade begins"
        time.sleep(LOOK_SECONDS)


class TestKilledInTheMiddle:
    # How many of the new edge's processes are there by then: of itself, and of its workers.
    @pytest.mark.parametrize("processes", [1, 2, 3])
    def test_the_new_edge(self, process: Process, upstream: Upstream, processes: int) -> None:
        old = family(process)
        with ThreadPoolExecutor(1) as thread:
            upgrading = thread.submit(upgrade, process)
            pid = successor_of(process)
            until_there_are(process.db, len(old) + processes)
            os.kill(pid, signal.SIGKILL)
            said = upgrading.result(PATIENCE)
        assert said.exit_code == ExitCode.FAILED
        assert "the old edge goes on: the new one ended (killed by SIGKILL)" in said.stderr
        assert family(process) == old
        exchange(process.connects(), upstream)
        until_none_is_left(process.db, *old)

    @pytest.mark.parametrize("processes", [1, 2, 3])
    def test_the_old_edge(self, process: Process, upstream: Upstream, processes: int) -> None:
        old = family(process)
        with ThreadPoolExecutor(1) as thread:
            upgrading = thread.submit(upgrade, process)
            pid = successor_of(process)
            until_there_are(process.db, len(old) + processes)
            process.gets(signal.SIGKILL)
            process.popen.wait(PATIENCE)
            said = upgrading.result(PATIENCE)
        assert said.exit_code == ExitCode.OK, said.output
        assert said.stdout.startswith(f"upgraded to process {pid}")
        exchange(process.connects(), upstream)
        workers = [worker["pid"] for worker in process.workers()]
        until_none_is_left(process.db, pid, *workers)
        process.is_succeeded_by(pid)
        process.is_succeeded_by_nobody()

    def test_both(self, process: Process, conversation: Conversation, upstream: Upstream) -> None:
        with ThreadPoolExecutor(1) as thread:
            upgrading = thread.submit(upgrade, process)
            pid = successor_of(process)
            for each in (process.popen.pid, pid):
                os.kill(each, signal.SIGKILL)
            process.popen.wait(PATIENCE)
            said = upgrading.result(PATIENCE)
        assert said.exit_code == ExitCode.FAILED
        assert "the edge ended during the upgrade, and no new one serves" in said.stderr
        again = restarted(conversation, process)
        exchange(again.connects(), upstream)
        until_none_is_left(process.db, *family(again))

    @pytest.mark.parametrize("processes", [1, 2, 3])
    def test_told_to_stop_it_leaves_nobody_behind(self, process: Process, processes: int) -> None:
        old = family(process)
        with ThreadPoolExecutor(1) as thread:
            upgrading = thread.submit(upgrade, process)
            successor_of(process)
            until_there_are(process.db, len(old) + processes)
            process.gets(signal.SIGTERM)
            assert process.ends() == 0
            said = upgrading.result(PATIENCE)
        if said.exit_code == ExitCode.OK:
            # It was too late: the new one served already, and is told as well.
            process.is_succeeded_by(int(said.stdout.split()[3]))
        else:
            assert "the edge was told to stop" in said.stderr
        until_none_is_left(process.db)
        process.is_succeeded_by_nobody()


def until_there_are(db: Path, count: int) -> None:
    """Returns when so many processes of edges of this database have been started."""
    deadline = time.monotonic() + PATIENCE
    while len({pid for pid in processes_of(db) if is_alive(pid)}) < count:
        assert time.monotonic() < deadline, "they do not start"


class TestCommand:
    def test_it_says_when_the_upgrade_goes_on(
        self, process: Process, faults: Faults, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Only the command is impatient: the edge has its 60 s.
        monkeypatch.setattr(client, "reply_timeout", lambda fields: 0.5 if fields else PATIENCE)
        faults.begin("supervisor", "loops")
        said = upgrade(process)
        assert said.exit_code == ExitCode.TIMEOUT
        assert "the upgrade is still going on: the edge at " in said.stderr
        faults.end()
        assert "the edge is already being upgraded" in upgrade(process).stderr

    def test_it_waits_as_long_as_the_edge_does(self) -> None:
        assert client.reply_timeout({"timeout": UPGRADE_TIMEOUT}) > UPGRADE_TIMEOUT
