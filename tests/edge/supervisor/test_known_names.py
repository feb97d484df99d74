"""Proves that the addresses of a name outlive the workers that have looked it up, while no name
server answers: a worker that is started anew serves them as its brothers do, and so does the next
edge; and that one which runs serves what its brother has looked up.
"""

import os
import signal
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from edge.routing.store_writer import RouteWriter
from tests.harness import Conversation
from tests.name_server import NameServer
from tests.process import PATIENCE, Origin, Process

NAME = "app.internal"


def ask(connection: HTTPConnection, host: str = "app.test") -> int:
    """The status of an answer."""
    connection.request("GET", "/", headers={"Host": host})
    with connection.getresponse() as answer:
        answer.read()
        return answer.status


def get(port: int) -> int:
    """The status of an answer, on a connection of its own."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        return ask(connection)


def connections_to_each_worker(
    conversation: Conversation, process: Process
) -> list[HTTPConnection]:
    """Which the kernel has spread over them; nothing was asked on them that has a name."""
    made: list[HTTPConnection] = []
    while True:
        made.append(HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE))
        conversation.closes_at_end(made[-1].close)
        assert ask(made[-1], "numeric.test") == 200
        open_ones = [0]
        while sum(open_ones) < len(made):
            open_ones = [worker["connections"] for worker in process.workers()]
        if all(open_ones):
            return made


@pytest.mark.parametrize(
    "goes_away", [NameServer.stops, lambda server: server.is_silent_about(NAME)]
)
def test_a_new_worker_and_a_new_edge_serve_what_was_known(
    conversation: Conversation, tmp_path: Path, goes_away: Callable[[NameServer], None]
) -> None:
    name_server = NameServer(conversation)
    name_server.knows(NAME, "127.0.0.1", ttl=1)
    db = tmp_path / "fairlead.db"
    RouteWriter(db).set("app.test", f"{NAME}:{Origin(conversation).port}")
    # It keeps no connection: each request asks for its target's addresses.
    process = Process(
        conversation, db, workers="1", pool_size="0", resolver=str(name_server.address)
    )
    assert get(process.port) == 200
    goes_away(name_server)
    for _ in range(2):
        os.kill(process.workers()[0]["pid"], signal.SIGKILL)
        process.says("restarting it")
        assert get(process.port) == 200
    pid = process.asks("/upgrade")["pid"]
    assert get(process.port) == 200
    os.kill(process.workers()[0]["pid"], signal.SIGKILL)
    process.says("restarting it")
    assert get(process.port) == 200
    process.is_succeeded_by(pid)


@pytest.mark.parametrize(
    "goes_away", [NameServer.stops, lambda server: server.is_silent_about(NAME)]
)
def test_a_worker_serves_what_its_brother_has_looked_up(
    conversation: Conversation, tmp_path: Path, goes_away: Callable[[NameServer], None]
) -> None:
    name_server = NameServer(conversation)
    name_server.knows(NAME, "127.0.0.1", ttl=1)
    db = tmp_path / "fairlead.db"
    origin = Origin(conversation)
    writer = RouteWriter(db)
    writer.set("app.test", f"{NAME}:{origin.port}")
    writer.set("numeric.test", origin.target)
    process = Process(conversation, db, pool_size="0", resolver=str(name_server.address))
    first, *others = connections_to_each_worker(conversation, process)
    assert ask(first) == 200
    goes_away(name_server)
    # Each answer comes after what its worker has said before: the first that the supervisor was
    # told, the second that the other worker was.
    for _ in range(2):
        process.admin("/routes").raise_for_status()
    assert {ask(each) for each in others} == {200}
    assert [worker["restarts"] for worker in process.workers()] == [0, 0]
