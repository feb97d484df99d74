"""What the access log says of a request, and that it neither lies nor breaks."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Edge, Upstream, exchange
from tests.messages import chunk, chunks, ok, request, response


class Logged:
    """An edge that writes an access log, and its lines."""

    def __init__(self, edge: Edge, path: Path) -> None:
        self.edge = edge
        self._path = path

    def lines(self) -> list[dict[str, Any]]:
        """Stops the edge, so that everything is written, and reads the log."""
        self.edge.stops()
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def line(self) -> dict[str, Any]:
        """The only line."""
        (line,) = self.lines()
        return line


@pytest.fixture
def logged(make_edge: Callable[..., Edge], upstream: Upstream, tmp_path: Path) -> Logged:
    """An edge that serves app.test and logs."""
    path = tmp_path / "access.log"
    edge = make_edge(access_log=str(path))
    edge.routes("app.test", upstream.target)
    return Logged(edge, path)


class TestFields:
    """Issue "The edge serves by Host", "Access log"."""

    def test_a_line_tells_all_of_an_exchange(self, logged: Logged, upstream: Upstream) -> None:
        client = logged.edge.connects(source="127.0.0.7")
        sent = request(
            "POST /path?query=1", "User-Agent: tester/1.0", "Content-Length: 5", body="hello"
        )
        client.sends(sent)
        connection = upstream.accepts()
        connection.receives_request()
        logged.edge.advance(2.5)
        connection.sends(response("201 Created", "Content-Length: 7", body="created"))
        client.receives_response()
        line = logged.line()
        assert line["client"] == "127.0.0.7"
        assert line["host"] == "app.test"
        assert line["method"] == "POST"
        assert line["path"] == "/path?query=1"
        assert line["protocol"] == "HTTP/1.1"
        assert line["status"] == 201
        assert line["bytes_received"] == 5
        assert line["bytes_sent"] == 7
        assert line["duration"] == pytest.approx(2.5)
        assert line["upstream"] == upstream.target
        assert line["upstream_duration"] == pytest.approx(2.5)
        assert line["user_agent"] == "tester/1.0"
        assert len(line["request_id"]) >= 8
        age = datetime.now(UTC) - datetime.fromisoformat(line["time"])
        assert 0 <= age.total_seconds() < 60

    def test_every_exchange_of_a_connection_has_a_line(
        self, logged: Logged, upstream: Upstream
    ) -> None:
        client = logged.edge.connects()
        connection = exchange(client, upstream, request("GET /1")).connection
        exchange(client, connection, request("GET /2"))
        exchange(client, connection, request("GET /3", "User-Agent: other"))
        lines = logged.lines()
        assert [line["path"] for line in lines] == ["/1", "/2", "/3"]
        assert [line["user_agent"] for line in lines] == ["", "", "other"]
        assert len({line["request_id"] for line in lines}) == 3

    def test_bytes_are_those_of_bodies_and_not_of_chunks(
        self, logged: Logged, upstream: Upstream
    ) -> None:
        client = logged.edge.connects()
        sent = request("POST /", "Transfer-Encoding: chunked", body=chunks("hel", "lo"))
        answer = response("200 OK", "Transfer-Encoding: chunked", body=chunks("a" * 10, "b"))
        exchange(client, upstream, sent, answer)
        line = logged.line()
        assert (line["bytes_received"], line["bytes_sent"]) == (5, 11)

    def test_http_1_0_is_named(self, logged: Logged, upstream: Upstream) -> None:
        exchange(logged.edge.connects(), upstream, request("GET / HTTP/1.0"))
        assert logged.line()["protocol"] == "HTTP/1.0"

    def test_an_answer_of_the_edge_has_no_upstream(self, logged: Logged) -> None:
        client = logged.edge.connects()
        client.sends(request("GET /", host="unknown.test"))
        client.receives_response()
        line = logged.line()
        assert line["status"] == 404
        assert line["host"] == "unknown.test"
        assert line["upstream"] is None
        assert line["upstream_duration"] is None

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"NONSENSE\r\n\r\n", 400),
            (request("GET / HTTP/2.0"), 505),
            (request("GET /" + "a" * 9000), 414),
            (request("GET /", "X: " + "y" * 40_000), 431),
        ],
    )
    def test_a_refused_head_has_a_line(self, logged: Logged, sent: bytes, status: int) -> None:
        client = logged.edge.connects()
        client.sends(sent)
        client.receives_response()
        assert logged.line()["status"] == status

    def test_a_failed_upstream_has_a_line(self, logged: Logged, upstream: Upstream) -> None:
        upstream.refuses()
        client = logged.edge.connects()
        client.sends(request("GET /"))
        client.receives_response()
        assert logged.line()["status"] == 502

    def test_a_client_that_left_has_a_line(self, logged: Logged, upstream: Upstream) -> None:
        """499, as nginx writes it: nobody got an answer."""
        client = logged.edge.connects()
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        client.resets()
        connection.sees_end()
        assert logged.line()["status"] == 499

    def test_a_broken_response_is_told_from_a_whole_one(
        self, logged: Logged, upstream: Upstream
    ) -> None:
        client = logged.edge.connects()
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Content-Length: 100", body="part"))
        client.receives_head()
        client.receives_data("part")
        connection.closes()
        client.sees_broken_body()
        line = logged.line()
        assert line["status"] == 200
        assert line["bytes_sent"] == 4
        assert line["error"]

    def test_a_tunnel_has_a_line_when_it_ends(self, logged: Logged, upstream: Upstream) -> None:
        client = logged.edge.connects()
        client.sends(request("GET /ws", "Connection: upgrade", "Upgrade: x"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("101 X", "Connection: upgrade", "Upgrade: x"))
        client.receives_head()
        client.sends(b"12345")
        connection.receives(b"12345")
        connection.sends(b"1234567")
        client.receives(b"1234567")
        logged.edge.advance(10)
        client.closes()
        connection.sees_eof()
        connection.closes()
        logged.edge.settle()
        line = logged.line()
        assert line["status"] == 101
        assert (line["bytes_received"], line["bytes_sent"]) == (5, 7)
        assert line["duration"] == pytest.approx(10)

    @pytest.mark.settings(trusted_proxies=(ip_network("127.0.0.1/32"),))
    def test_the_client_is_the_one_that_a_trusted_proxy_names(
        self, logged: Logged, upstream: Upstream
    ) -> None:
        client = logged.edge.connects()
        exchange(client, upstream, request("GET /", "X-Forwarded-For: 192.0.2.9"))
        assert logged.line()["client"] == "192.0.2.9"

    def test_the_client_is_not_the_one_that_anybody_names(
        self, logged: Logged, upstream: Upstream
    ) -> None:
        client = logged.edge.connects()
        exchange(client, upstream, request("GET /", "X-Forwarded-For: 192.0.2.9"))
        assert logged.line()["client"] == "127.0.0.1"


class TestSafety:
    """A line is one line of ASCII-safe JSON whatever a client writes."""

    def test_what_a_client_writes_cannot_break_the_line(
        self, logged: Logged, upstream: Upstream
    ) -> None:
        sent = request('GET /"\\x', 'User-Agent: a"b\\c\xff\x80\tq')
        exchange(logged.edge.connects(), upstream, sent)
        line = logged.line()
        assert line["path"] == '/"\\x'
        assert line["user_agent"] == 'a"b\\c\xff\x80\tq'

    def test_long_values_are_cut(self, logged: Logged, upstream: Upstream) -> None:
        sent = request("GET /" + "p" * 8000, "User-Agent: " + "u" * 20_000)
        exchange(logged.edge.connects(), upstream, sent)
        line = logged.line()
        assert len(line["path"]) < 5000
        assert len(line["user_agent"]) < 5000

    def test_a_full_disk_does_not_stop_traffic(
        self,
        make_edge: Callable[..., Edge],
        upstream: Upstream,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.WARNING)
        edge = make_edge(access_log="/dev/full")
        edge.routes("app.test", upstream.target)
        client = edge.connects()
        connection = exchange(client, upstream).connection
        caplog.clear()
        for _ in range(20):
            exchange(client, connection)
        edge.stops()
        assert sum("access log" in record.getMessage() for record in caplog.records) == 1

    def test_a_stream_that_is_open_has_no_line_yet(
        self, logged: Logged, upstream: Upstream
    ) -> None:
        client = logged.edge.connects()
        client.sends(request("GET /stream"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("x")))
        client.receives_head()
        other = logged.edge.connects()
        other.sends(request("GET /other"))
        second = upstream.accepts()
        second.receives_request()
        second.sends(ok())
        other.receives_response()
        paths = [line["path"] for line in logged.lines()]
        assert paths[0] == "/other"
