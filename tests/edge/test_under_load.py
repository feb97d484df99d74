"""Proves that nobody notices: wrk asks on 64 connections while targets, workers and the program
itself are replaced.

What is counted is failures; how long it takes is the machine's business.
"""

import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.compiled import PURE
from edge.control.handover import UPGRADE_TIMEOUT
from edge.routing.store_writer import RouteWriter
from tests.app import App
from tests.edge.supervisor.faults import Faults
from tests.edge.wire.twins import COMPILED
from tests.harness import Conversation, Upstream
from tests.messages import request
from tests.process import PATIENCE, Process
from tests.programs import needs

pytestmark = [needs("wrk"), pytest.mark.timeout(900)]

CONNECTIONS = 64


class Load:
    """What wrk has seen."""

    def __init__(self) -> None:
        self.requests = 0
        self.failed = 0
        self.report = ""

    def reads(self, report: str) -> None:
        """Takes wrk's report."""
        self.report = report
        found = re.search(r"(\d+) requests in", report)
        assert found is not None, report
        self.requests = int(found[1])
        errors = re.search(
            r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", report
        )
        others = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
        self.failed = sum(map(int, errors.groups())) if errors else 0
        self.failed += int(others[1]) if others else 0


@contextmanager
def load(process: Process) -> Iterator[Load]:
    """Requests for app.test from the first to the last moment of the block."""
    found = Load()
    with subprocess.Popen(
        [
            *("wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", "600", "--timeout", "60"),
            *("-H", "Host: app.test", f"http://127.0.0.1:{process.port}/"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as wrk:
        try:
            yield found
        finally:
            wrk.send_signal(signal.SIGINT)
            report, _ = wrk.communicate(timeout=PATIENCE)
    found.reads(report)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "fairlead.db"


@pytest.fixture
def app(conversation: Conversation, db: Path) -> App:
    """The target of app.test."""
    app = App(conversation)
    RouteWriter(db).set("app.test", app.target)
    return app


@pytest.fixture
def process(conversation: Conversation, db: Path, app: App) -> Process:
    """Two workers that serve app.test."""
    return Process(conversation, db)


@pytest.mark.parametrize("cutovers", [8, pytest.param(200, marks=pytest.mark.chaos)])
def test_cutovers_cost_nothing(
    conversation: Conversation, process: Process, db: Path, app: App, cutovers: int
) -> None:
    """The contract of a deploy: write, reload, drain, and only then the old target dies."""
    old, new = app, App(conversation)
    cut = 0
    with load(process) as seen:
        for _ in range(cutovers):
            following = App(conversation)
            version = RouteWriter(db).set("app.test", new.target)
            assert process.asks("/reload", version=version)["workers"] == 2
            cut += process.asks("/drain", target=old.target, timeout=30)["cut"]
            old.dies()
            old, new = new, following
    assert (seen.failed, cut) == (0, 0), seen.report
    assert seen.requests > cutovers


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=pytest.mark.chaos)])
def test_a_worker_that_is_killed_costs_only_what_it_had_in_flight(
    process: Process, kills: int
) -> None:
    with load(process) as seen:
        for _ in range(kills):
            victim = random.choice(process.workers())
            os.kill(victim["pid"], signal.SIGKILL)
            process.says(f"(pid {victim['pid']}) exited")
            process.until("/metrics", "fairlead_workers_serving 2.0")
    # A killed worker breaks the connections that it has, each with at most one request.
    assert seen.failed <= kills * CONNECTIONS, seen.report
    assert seen.requests > kills * CONNECTIONS


@pytest.mark.parametrize("upgrades", [2, pytest.param(40, marks=pytest.mark.chaos)])
def test_upgrades_cost_nothing(
    conversation: Conversation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    db: Path,
    app: App,
    upgrades: int,
) -> None:
    """Nor do they where each is to the other head codec: from pure to compiled, and back."""
    compiled = "compiled" if COMPILED else "pure"
    faults = Faults(tmp_path / "faults")
    for name, text in faults.environ.items():
        monkeypatch.setenv(name, text)

    def next_is(pure: bool) -> None:
        # As if the file of the compiled one had come, or gone; the environment is passed on.
        faults.patch(f"os.environ[{PURE!r}] = '{int(pure)}'")

    next_is(pure=True)
    process = Process(conversation, db)
    with load(process) as seen:
        pid = process.popen.pid
        for number in range(upgrades):
            pure = number % 2 == 1
            next_is(pure)
            before = pid
            pid = process.asks("/upgrade", timeout=UPGRADE_TIMEOUT)["pid"]
            process.sees_end_of(before)
            runs = {worker["codec"] for worker in process.workers()}
            assert runs == {"pure" if pure else compiled}
    assert seen.failed == 0, seen.report
    assert seen.requests > upgrades
    process.is_succeeded_by(pid)


def test_a_tunnel_of_one_app_lives_through_a_thousand_changes_of_another(
    conversation: Conversation, process: Process, db: Path, app: App, upstream: Upstream
) -> None:
    writer = RouteWriter(db)
    process.asks("/reload", version=writer.set("ws.test", upstream.target))
    client = process.connects()
    client.sends(request("GET /", "Connection: upgrade", "Upgrade: websocket", host="ws.test"))
    connection = upstream.accepts()
    connection.receives_request()
    connection.sends(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert client.receives_response().status == 101
    targets = [app.target, App(conversation).target]
    version = 0
    for number in range(1_000):
        version = writer.set("app.test", targets[number % 2])
        if number % 20 == 0:
            assert process.asks("/reload", version=version)["version"] >= version
            client.sends(b"ping")
            connection.receives(b"ping")
            connection.sends(b"pong")
            client.receives(b"pong")
    assert process.asks("/reload", version=version)["version"] == version
    client.sends(b"end")
    connection.receives(b"end")
