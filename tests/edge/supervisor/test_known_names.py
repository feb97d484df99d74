"""Proves that the addresses of a name outlive the workers that have looked it up, while no name
server answers: a worker that is started anew serves them as its brothers do, and so does the next
edge.
"""

import os
import signal
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest

from edge.routing.store_writer import RouteWriter
from tests.harness import Conversation
from tests.name_server import NameServer
from tests.process import PATIENCE, Origin, Process

NAME = "app.internal"


def get(port: int) -> int:
    """The status of an answer, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/", headers={"Host": "app.test", "Connection": "close"})
        return connection.getresponse().status
    finally:
        connection.close()


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
