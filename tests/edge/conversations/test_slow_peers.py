"""What waits for all slow peers together has a bound: those nearest to their timeouts are cut."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Client, Edge, Upstream, UpstreamConnection
from tests.messages import request, response

ENDLESS = 200_000_000
"""Bytes that are more than any sum of buffers."""

SLOW = 10.0
"""Seconds between two that stop reading."""

MOST = 5
"""So many of them hold more than the limit: each some 256 KiB at least."""

pytestmark = pytest.mark.settings(max_buffered=2**20)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def edge(make_edge: Callable[..., Edge], upstream: Upstream, log: Path) -> Edge:
    edge = make_edge(access_log=str(log))
    edge.routes("app.test", upstream.target)
    return edge


def stops_reading(edge: Edge, upstream: Upstream) -> tuple[Client, UpstreamConnection]:
    """A client for which the edge has as much as it takes for one, and the upstream of it."""
    client = edge.connects(receive_buffer=4096)
    client.sends(request("GET /"))
    connection = upstream.accepts()
    connection.receives_request()
    connection.sends(response("200 OK", f"Content-Length: {ENDLESS}"))
    assert connection.sends_until_blocked(b"x" * 65536, at_most=ENDLESS) < ENDLESS
    edge.advance(SLOW)
    return client, connection


def stops_taking(edge: Edge, upstream: Upstream) -> tuple[Client, UpstreamConnection]:
    """An upstream for which the edge has as much as it takes for one, and whose client it is."""
    client = edge.connects()
    client.sends(request("POST /", f"Content-Length: {ENDLESS}"))
    connection = upstream.accepts()
    connection.receives_head()
    assert client.sends_until_blocked(b"x" * 65536, at_most=ENDLESS) < ENDLESS
    edge.advance(SLOW)
    return client, connection


def errors(edge: Edge, log: Path) -> list[str]:
    """What the access log says of those that were cut."""
    edge.stops()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["error"] for line in lines if line["error"] == "memory limit"]


@pytest.mark.parametrize("stops", [stops_reading, stops_taking])
def test_the_one_that_is_nearest_to_its_timeout_is_cut(
    edge: Edge,
    upstream: Upstream,
    log: Path,
    caplog: pytest.LogCaptureFixture,
    stops: Callable[[Edge, Upstream], tuple[Client, UpstreamConnection]],
) -> None:
    caplog.set_level(logging.WARNING, "edge.net.memory")
    limit = edge.worker.state.buffer_limit
    peers: list[tuple[Client, UpstreamConnection]] = []
    while not limit.cut:
        assert len(peers) < MOST
        peers.append(stops(edge, upstream))
    assert limit.cut < len(peers)
    assert limit.used <= limit.limit
    for client, connection in peers[: limit.cut]:
        if stops is stops_reading:
            client.receives_head()
            client.sees_broken_body()
        else:
            connection.sees_broken_body()
    # The others are where they were.
    assert len(edge.worker.state.clients) == len(peers) - limit.cut
    (said,) = caplog.messages
    assert "more than 1 MiB waited" in said
    assert "FAIRLEAD_MAX_BUFFERED" in said
    assert errors(edge, log) == ["memory limit"] * limit.cut
