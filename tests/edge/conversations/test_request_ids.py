"""The id of a request: upstream, client, error bodies and log name the same one."""

import json
import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.harness import Client, Edge, Upstream, exchange
from tests.messages import chunks, ok, request, response

TRUSTED = (ip_network("127.0.0.0/8"),)
FORTY_KIB = "x" * 40 * 1024


class TestOwnIds:
    """An untrusted client: every request gets an id of the edge's own."""

    def test_upstream_and_client_get_the_same_one(self, client: Client, upstream: Upstream) -> None:
        done = exchange(client, upstream)
        assert len(done.request["X-Request-Id"]) >= 16
        assert done.response["X-Request-Id"] == done.request["X-Request-Id"]

    def test_requests_with_the_same_fields_have_different_ids(
        self, client: Client, upstream: Upstream
    ) -> None:
        first = exchange(client, upstream)
        others = [exchange(client, first.connection) for _ in range(3)]
        ids = [done.request["X-Request-Id"] for done in (first, *others)]
        assert ids == [done.response["X-Request-Id"] for done in (first, *others)]
        assert len(set(ids)) == 4

    @pytest.mark.parametrize("spelling", ["X-Request-Id", "x-request-id", "X_Request_ID"])
    def test_what_the_client_says_is_replaced(
        self, client: Client, upstream: Upstream, spelling: str
    ) -> None:
        done = exchange(client, upstream, request("GET /", f"{spelling}: mine"))
        assert "mine" not in done.request.raw.decode()
        assert done.response["X-Request-Id"] == done.request["X-Request-Id"]

    @pytest.mark.parametrize(
        "answer",
        [
            ok("hello", "X-Request-Id: theirs"),
            ok(FORTY_KIB, "x-request-id: theirs"),
            response("200 OK", "X-Request-Id: theirs", "Content-Length: 2", body="hi"),
            response(
                "200 OK", "X-Request-Id: theirs", "Transfer-Encoding: chunked", body=chunks("a")
            ),
            response("204 No Content", "X-Request-Id: theirs", "X-Request-Id: theirs too"),
            response("304 Not Modified", "X-Request-Id: theirs"),
            response("500 Internal Server Error", "X-Request-Id: theirs", "Content-Length: 0"),
        ],
        ids=["plain", "large", "no-date", "chunked", "204", "304", "500"],
    )
    def test_what_the_upstream_says_is_replaced(
        self, client: Client, upstream: Upstream, answer: bytes
    ) -> None:
        done = exchange(client, upstream, answered=answer)
        assert done.response["X-Request-Id"] == done.request["X-Request-Id"]

    @pytest.mark.parametrize(
        "line", ["HEAD /", "GET / HTTP/1.0", "POST /", "OPTIONS *", "GET http://app.test/"]
    )
    def test_every_kind_of_request_has_one(
        self, client: Client, upstream: Upstream, line: str
    ) -> None:
        done = exchange(client, upstream, request(line), ok())
        assert done.response["X-Request-Id"] == done.request["X-Request-Id"]

    def test_a_rewritten_head_has_one(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test/api", upstream.target, strip=True, host="target")
        done = exchange(edge.connects(), upstream, request("GET /api/x"))
        assert done.request.line == "GET /x HTTP/1.1"
        assert done.response["X-Request-Id"] == done.request["X-Request-Id"]

    def test_an_interim_response_has_none(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        asked = connection.receives_request()
        connection.sends(response("103 Early Hints", "X-Request-Id: theirs", "Link: </a>"))
        hints = client.receives_head()
        assert (hints.status, hints.names) == (103, ["link"])
        connection.sends(ok())
        assert client.receives_response()["X-Request-Id"] == asked["X-Request-Id"]

    def test_a_switch_of_protocols_has_one(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("GET /chat", "Connection: Upgrade", "Upgrade: websocket"))
        connection = upstream.accepts()
        asked = connection.receives_head()
        connection.sends(
            response("101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket")
        )
        assert client.receives_head()["X-Request-Id"] == asked["X-Request-Id"]
        connection.sends(b"frame")
        client.receives(b"frame")

    def test_the_answer_of_the_last_hop_has_one(self, client: Client) -> None:
        client.sends(request("OPTIONS /", "Max-Forwards: 0"))
        assert len(client.receives_response()["X-Request-Id"]) >= 16

    def test_a_repeated_request_keeps_its_id(self, client: Client, upstream: Upstream) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("GET /again"))
        first = connection.receives_request()
        connection.closes()
        again = upstream.accepts()
        assert again.receives_request()["X-Request-Id"] == first["X-Request-Id"]
        again.sends(ok())
        assert client.receives_response()["X-Request-Id"] == first["X-Request-Id"]

    def test_connection_cannot_take_it_away(self, client: Client) -> None:
        client.sends(request("GET /", "Connection: X-Request-Id"))
        client.is_refused(400)

    def test_the_log_names_it(
        self, make_edge: Callable[..., Edge], upstream: Upstream, tmp_path: Path
    ) -> None:
        edge = make_edge(access_log=str(tmp_path / "access.log"))
        edge.routes("app.test", upstream.target)
        done = exchange(edge.connects(), upstream)
        edge.stops()
        (line,) = (tmp_path / "access.log").read_text().splitlines()
        assert json.loads(line)["request_id"] == done.request["X-Request-Id"]


@pytest.mark.settings(trusted_proxies=TRUSTED)
class TestIdsOfATrustedProxy:
    """A trusted proxy has named the request already: its name is kept, if it is one."""

    def test_it_goes_on_in_both_directions(self, client: Client, upstream: Upstream) -> None:
        done = exchange(client, upstream, request("GET /", "x-request-id: edge-7"))
        assert done.request.all("X-Request-Id") == ["edge-7"]
        assert done.response["X-Request-Id"] == "edge-7"

    def test_it_does_not_stick_to_the_connection(self, client: Client, upstream: Upstream) -> None:
        first = exchange(client, upstream, request("GET /", "X-Request-Id: one"))
        second = exchange(client, first.connection, request("GET /", "X-Request-Id: two"))
        third = exchange(client, first.connection)
        assert second.response["X-Request-Id"] == "two"
        assert third.response["X-Request-Id"] not in ("one", "two")

    def test_an_error_of_the_edge_names_it(self, client: Client) -> None:
        client.sends(request("GET /", "X-Request-Id: edge-7", host="other.test"))
        answer = client.receives_response()
        assert (answer.status, answer["X-Request-Id"]) == (404, "edge-7")
        assert answer.text.endswith("request id: edge-7\n")

    @pytest.mark.parametrize(
        "fields",
        [
            ("X-Request-Id: a b",),
            ("X-Request-Id:",),
            ("X-Request-Id: one", "X-Request-Id: two"),
            ("X_Request_Id: one",),
            (f"X-Request-Id: {'x' * 129}",),
        ],
    )
    def test_what_is_no_id_is_replaced(
        self, client: Client, upstream: Upstream, fields: tuple[str, ...]
    ) -> None:
        done = exchange(client, upstream, request("GET /", *fields))
        assert re.fullmatch("[0-9a-f]{16}-[0-9a-f]+", done.request["X-Request-Id"])
        assert done.response["X-Request-Id"] == done.request["X-Request-Id"]
