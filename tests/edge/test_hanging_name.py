"""Proves on the running program that a name which hangs is nobody's concern but its own.

What is counted is answers; how long they take is the machine's business (`bench` measures it).
"""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from edge.routing.store_writer import RouteWriter
from tests.harness import Conversation
from tests.name_server import NameServer
from tests.process import PATIENCE, Origin, Process

HANGING, GOOD = "hanging.internal", "good.internal"
PAUSE = 0.05
"""Seconds between two requests to the name that hangs: 20 a second."""

SHORT = 100
"""Requests to each of the others."""

LONG = 20_000
PHASE = 500
"""Requests after which the good name's servers do something else."""


def get(port: int, host: str) -> int:
    """The status of an answer, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/", headers={"Host": host, "Connection": "close"})
        return connection.getresponse().status
    finally:
        connection.close()


@contextmanager
def asked_without_end(process: Process, host: str) -> Iterator[Counter[int]]:
    """20 requests a second for as long as the block lasts; afterwards, how each was answered."""
    answers: Counter[int] = Counter()
    over = threading.Event()
    asking: list[threading.Thread] = []

    def ask() -> None:
        answers[get(process.port, host)] += 1

    def run() -> None:
        while not over.wait(PAUSE):
            asking.append(threading.Thread(target=ask))
            asking[-1].start()

    runner = threading.Thread(target=run)
    runner.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in (runner, *asking):
            thread.join(PATIENCE)


@pytest.fixture
def name_server(conversation: Conversation) -> NameServer:
    server = NameServer(conversation)
    server.is_silent_about(HANGING)
    server.knows(GOOD, "127.0.0.1", ttl=1)
    return server


@pytest.fixture
def workers() -> str:
    """How many."""
    return "1"


@pytest.fixture
def process(
    conversation: Conversation, name_server: NameServer, tmp_path: Path, workers: str
) -> Process:
    """An edge that keeps no connection: each request asks for its target's addresses."""
    origin = Origin(conversation)
    db = tmp_path / "fairlead.db"
    writer = RouteWriter(db)
    writer.set("hanging.test", f"{HANGING}:{origin.port}")
    writer.set("good.test", f"{GOOD}:{origin.port}")
    writer.set("numeric.test", origin.target)
    return Process(
        conversation, db, workers=workers, pool_size="0", resolver=str(name_server.address)
    )


def last_lines(process: Process) -> str:
    """What it says until it has stopped."""
    process.gets(signal.SIGTERM)
    lines = [process.says("")]
    while "stopped" not in lines[-1]:
        lines.append(process.says(""))
    return "".join(lines)


def test_a_name_that_hangs_costs_the_others_no_answer(
    process: Process, name_server: NameServer
) -> None:
    with asked_without_end(process, "hanging.test") as answers:
        name_server.is_asked(HANGING)
        for host in ("good.test", "numeric.test") * SHORT:
            assert get(process.port, host) == 200
        found = process.until("/routes", "did not answer within").json()
    states = {route["route"]: route["targets"][0] for route in found["routes"]}
    assert states["good.test"]["addresses"] == ["127.0.0.1"]
    assert states["hanging.test"]["name_error"] == "the name servers did not answer within 4 s"
    assert "addresses" not in states["numeric.test"]
    assert answers.keys() == {502}
    log = last_lines(process)
    assert log.count(f"the name {HANGING} of a target cannot be resolved") == 1
    assert "never retrieved" not in log


@pytest.mark.parametrize("workers", ["2"])
def test_routes_shows_what_any_worker_knows(process: Process, name_server: NameServer) -> None:
    """It takes one request, which one worker has served; the other one knows nothing."""
    assert get(process.port, "good.test") == 200
    name_server.is_asked(GOOD)
    found = process.admin("/routes").json()
    states = {route["route"]: route["targets"][0] for route in found["routes"]}
    assert states["good.test"]["addresses"] == ["127.0.0.1"]
    assert states["good.test"]["name_error"] == ""


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_name_servers_that_come_and_go_cost_no_answer(
    process: Process, name_server: NameServer
) -> None:
    """The good name's servers answer, hang, fail, say that it has gone, and answer again."""
    phases = (
        lambda: name_server.knows(GOOD, "127.0.0.1", ttl=1),
        lambda: name_server.is_silent_about(GOOD),
        lambda: name_server.fails(GOOD),
        lambda: name_server.knows(GOOD, "127.0.0.2", "127.0.0.1", ttl=0),
        lambda: name_server.forgets(GOOD),
    )
    seen: Counter[int] = Counter()
    with asked_without_end(process, "hanging.test") as answers:
        for number in range(LONG):
            if number % PHASE == 0:
                phases[number // PHASE % len(phases)]()
            seen[get(process.port, "good.test")] += 1
    assert seen == Counter({200: LONG})
    assert answers.keys() == {502}
    log = last_lines(process)
    assert log.count(f"the name {HANGING} of a target cannot be resolved") == 1
    assert "never retrieved" not in log
