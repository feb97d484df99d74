"""Proves that no process of an edge outlives its purpose, in whatever state it is when the one that
started it ends; that none that is well is cut short; and that a new edge can start at once.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.routing.store_writer import RouteWriter
from tests.edge.supervisor.faults import LOOPS, Faults, restarted, stop, until_none_is_left
from tests.harness import Conversation, Upstream, exchange
from tests.messages import ok, request
from tests.process import PATIENCE, Process

COMMANDS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


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
    """An edge with two workers."""
    return Process(conversation, db)


def worker_pids(process: Process) -> list[int]:
    return [worker["pid"] for worker in process.workers()]


def dies(process: Process) -> None:
    process.gets(signal.SIGKILL)
    process.popen.wait(PATIENCE)


class TestDeadSupervisor:
    def test_stopped_workers_end_and_the_next_edge_serves(
        self, process: Process, conversation: Conversation, upstream: Upstream
    ) -> None:
        for pid in worker_pids(process):
            stop(pid)
        dies(process)
        again = restarted(conversation, process)
        until_none_is_left(process.db, again.popen.pid, *worker_pids(again))
        exchange(again.connects(), upstream)

    def test_what_is_in_flight_is_finished_also_by_a_worker_that_was_stopped(
        self, process: Process, conversation: Conversation, upstream: Upstream
    ) -> None:
        clients = [process.connects() for _ in range(8)]
        connections = []
        for client in clients:
            client.sends(request("GET /slow"))
            connections.append(upstream.accepts())
            connections[-1].receives_request()
        stop(worker_pids(process)[0])
        dies(process)
        again = restarted(conversation, process)
        for connection in connections:
            connection.sends(ok("slow"))
        assert {client.receives_response().text for client in clients} == {"slow"}
        for client in clients:
            client.closes()
        until_none_is_left(process.db, again.popen.pid, *worker_pids(again))

    def test_one_that_is_stopped_later_goes_on_when_the_next_edge_starts(
        self, conversation: Conversation, db: Path, upstream: Upstream
    ) -> None:
        process = Process(conversation, db, workers="1")
        client = process.connects()
        client.sends(request("GET /slow"))
        connection = upstream.accepts()
        connection.receives_request()
        (pid,) = worker_pids(process)
        dies(process)
        process.is_succeeded_by_nobody()  # it has begun to drain
        stop(pid)
        connection.sends(ok("slow"))
        again = restarted(conversation, process)
        assert client.receives_response().text == "slow"
        client.closes()
        until_none_is_left(process.db, again.popen.pid, *worker_pids(again))

    def test_workers_that_loop_are_ended_by_the_kernel_and_the_next_edge_waits_for_it(
        self, conversation: Conversation, db: Path, faults: Faults, upstream: Upstream
    ) -> None:
        faults.patch("from edge.control import lifeline; lifeline.HANG_LIMIT = 5.0")
        process = Process(conversation, db)
        for pid in worker_pids(process):
            os.kill(pid, LOOPS)
        dies(process)
        exchange(restarted(conversation, process).connects(), upstream)

    @pytest.mark.parametrize("how", ["stops", "loops"])
    def test_workers_that_hang_at_their_start_end(self, db: Path, faults: Faults, how: str) -> None:
        faults.patch(
            "if role == 'supervisor': from edge.supervisor import slot; slot.START_LIMIT = 5.0"
        )
        faults.begin("worker", how)
        popen = start(db)
        faults.until_hanging(2)
        popen.kill()
        popen.wait(PATIENCE)
        until_none_is_left(db)


def start(db: Path) -> "subprocess.Popen[bytes]":
    """An edge that need not come to serve."""
    return subprocess.Popen(
        [sys.executable, "-m", "edge"],
        env={
            **os.environ,
            "FAIRLEAD_DB": str(db),
            "FAIRLEAD_HTTP_ADDR": "127.0.0.1:0",
            "FAIRLEAD_ADMIN_ADDR": "127.0.0.1:0",
            "FAIRLEAD_WORKERS": "2",
        },
        stderr=subprocess.DEVNULL,
    )


class TestEarlySignals:
    def test_commands_to_a_supervisor_that_does_not_know_them_yet_do_not_end_it(
        self, conversation: Conversation, db: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits_for = Process.says

        def says(process: Process, text: str) -> str:
            """What the start waits for; the first time, it gets them as early as they can come."""
            if text == "serving on":
                deadline = time.monotonic() + PATIENCE
                while mask(process.popen.pid, "SigBlk") != COMMANDS_MASK:
                    assert time.monotonic() < deadline, "signals are not held back"
                for number in COMMANDS:
                    process.gets(number)
            return waits_for(process, text)

        monkeypatch.setattr(Process, "says", says)
        process = Process(conversation, db)
        assert process.admin("/healthz").status_code == 200
        process.gets(signal.SIGTERM)
        assert process.ends() == 0

    def test_nor_a_worker_that_has_not_run_a_line_yet(
        self, conversation: Conversation, process: Process, faults: Faults, upstream: Upstream
    ) -> None:
        faults.begin("worker", "stops")
        os.kill(worker_pids(process)[0], signal.SIGKILL)
        (pid,) = faults.until_hanging(1)
        faults.end()
        for number in (*COMMANDS, signal.SIGINT, signal.SIGCONT):
            os.kill(pid, number)
        process.until("/metrics", "fairlead_workers_serving 2.0")
        assert pid in worker_pids(process)


COMMANDS_MASK = sum(1 << number - 1 for number in COMMANDS)


def mask(pid: int, name: str) -> int:
    """A set of signals of a process, as /proc/PID/status has it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1], 16)
    raise AssertionError(name)
