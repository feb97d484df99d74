"""The edge's own answers: short, in the form that the client prefers, and silent about the rest."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Client, Edge, Upstream, exchange
from tests.messages import Message, request, response

MARK = "n0t-t0-be-reflected"
"""Stands wherever a client can write something."""


def unknown_host(*fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request that is answered with 404."""
    return request(f"{method} /{MARK} HTTP/{version}", *fields, host="unknown.test")


def answer_to(client: Client, sent: bytes) -> Message:
    """The edge's own answer."""
    client.sends(sent)
    return client.receives_response(to=sent.split(b" ")[0].decode("latin-1"))


class TestForm:
    """RFC 9110 sections 12.5.1 and 15.5."""

    def test_it_is_plain_text(self, client: Client) -> None:
        answer = answer_to(client, unknown_host())
        assert answer["Content-Type"].startswith("text/plain")
        assert "404" in answer.text
        assert answer["Date"].endswith(" GMT")

    @pytest.mark.parametrize(
        "accept",
        [
            "application/json",
            "APPLICATION/JSON",
            "application/json, text/plain;q=0.5",
            "text/plain;q=0.1, application/json;q=0.2",
            "text/html, application/json",
            "application/*",
            "text/plain;q=0, */*;q=0.1",
        ],
    )
    def test_it_is_json_where_the_client_prefers_that(self, client: Client, accept: str) -> None:
        answer = answer_to(client, unknown_host(f"Accept: {accept}"))
        assert answer["Content-Type"] == "application/json"
        assert json.loads(answer.body)["status"] == 404

    @pytest.mark.parametrize(
        "accept",
        [
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/plain",
            "text/*, application/json;q=0.9",
            "application/json;q=0",
            "application/json;q=abc",
            "application/jsonp",
            "",
            ",;,q=",
        ],
    )
    def test_it_is_plain_text_otherwise(self, client: Client, accept: str) -> None:
        answer = answer_to(client, unknown_host(f"Accept: {accept}"))
        assert answer["Content-Type"].startswith("text/plain")

    def test_several_accept_fields_are_one_list(self, client: Client) -> None:
        answer = answer_to(
            client, unknown_host("Accept: text/plain;q=0.5", "Accept: application/json")
        )
        assert answer["Content-Type"] == "application/json"

    @pytest.mark.parametrize("accept", ["*/*", "application/json"])
    def test_head_gets_the_head_alone(
        self, client: Client, upstream: Upstream, accept: str
    ) -> None:
        """RFC 9110 section 9.3.2."""
        answer = answer_to(client, unknown_host(f"Accept: {accept}", method="HEAD"))
        assert answer.status == 404
        assert int(answer["Content-Length"]) > 0
        client.receives_nothing()
        assert exchange(client, upstream).response.status == 200

    def test_an_http_1_0_client_is_closed(self, client: Client) -> None:
        answer = answer_to(client, unknown_host(version="1.0"))
        assert answer.status == 404
        client.sees_eof()

    def test_an_http_1_0_client_that_asks_stays(self, client: Client, upstream: Upstream) -> None:
        answer = answer_to(client, unknown_host("Connection: keep-alive", version="1.0"))
        assert "keep-alive" in answer.tokens("Connection")
        assert exchange(client, upstream).response.status == 200

    def test_close_is_honoured(self, client: Client) -> None:
        assert answer_to(client, unknown_host("Connection: close")).closes()
        client.sees_eof()

    @pytest.mark.parametrize(
        "sent",
        [
            b"HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"HEAD / HTTP/1.1\r\nHost: app.test\r\nX : y\r\n\r\n",
            b"HEAD /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: app.test\r\n\r\n",
        ],
    )
    def test_a_refused_head_request_gets_no_body(self, client: Client, sent: bytes) -> None:
        client.sends(sent)
        client.receives_head(to="HEAD")
        client.sees_eof()


class TestRequestId:
    """Issue "The edge serves by Host": a request id that is also in the log."""

    @pytest.mark.parametrize("accept", ["*/*", "application/json"])
    def test_it_is_in_the_answer_and_in_the_log(
        self, make_edge: Callable[..., Edge], tmp_path: Path, accept: str
    ) -> None:
        log = tmp_path / "access.log"
        edge = make_edge(access_log=str(log))
        answer = answer_to(edge.connects(), unknown_host(f"Accept: {accept}"))
        edge.stops()
        (line,) = log.read_text().splitlines()
        request_id = json.loads(line)["request_id"]
        assert len(request_id) >= 8
        assert request_id in answer.text
        assert answer["X-Request-Id"] == request_id

    def test_a_refused_head_is_in_the_log_too(
        self, make_edge: Callable[..., Edge], tmp_path: Path
    ) -> None:
        log = tmp_path / "access.log"
        edge = make_edge(access_log=str(log))
        answer = answer_to(edge.connects(), b"NONSENSE\r\n\r\n")
        edge.stops()
        (line,) = log.read_text().splitlines()
        assert json.loads(line)["status"] == 400
        assert json.loads(line)["request_id"] in answer.text

    def test_each_request_has_its_own(self, client: Client) -> None:
        ids = {answer_to(client, unknown_host())["X-Request-Id"] for _ in range(20)}
        assert len(ids) == 20


class TestDiscretion:
    """RFC 9110 section 17: nothing of the request, and nothing of the inside."""

    @pytest.mark.parametrize(
        "sent",
        [
            unknown_host(f"X-{MARK}: {MARK}", f"User-Agent: {MARK}", f"Cookie: {MARK}"),
            request("GET /", host=f"{MARK}.test"),
            request(f"{MARK} /", host="unknown.test"),
            request(f"GET /{MARK}#"),
            request("GET /", f"{MARK} : x"),
            request("GET /", host=f"{MARK}@app.test"),
            request("POST /", f"Content-Length: {MARK}"),
            request("POST /", f"Transfer-Encoding: {MARK}"),
            request("GET /", f"Expect: {MARK}"),
            request(f"CONNECT {MARK}.test:443"),
            request(f"GET /{MARK} HTTP/2.0"),
            request("GET /" + MARK * 1000),
            request("GET /", f"X: {MARK * 4000}"),
            request("GET /", *[f"X: {MARK}"] * 200),
            unknown_host(f"Accept: application/json, {MARK}", "Accept: text/plain;q=0.1"),
            unknown_host(f"X-Request-Id: {MARK}"),
            request(f"OPTIONS /{MARK}", f"Max-Forwards: {MARK}"),
            request("POST /", "Transfer-Encoding: chunked", body=f"{MARK}\r\n"),
        ],
    )
    def test_nothing_of_the_request_is_reflected(
        self, client: Client, upstream: Upstream, sent: bytes
    ) -> None:
        client.sends(sent)
        answer = client.receives_response()
        assert answer.status >= 400
        assert MARK.encode() not in answer.raw + answer.body

    def test_nothing_of_the_upstream_is_told(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(f"HTTP/1.1 2{MARK}\r\nServer: {MARK}\r\n\r\n".encode())
        answer = client.receives_response()
        assert answer.status == 502
        said = (answer.raw + answer.body).decode()
        for secret in (MARK, upstream.target, "127.0.0.1", "Traceback", "python", "fairlead.db"):
            assert secret not in said

    def test_a_refused_target_is_not_named(self, client: Client, upstream: Upstream) -> None:
        upstream.refuses()
        answer = answer_to(client, request("GET /"))
        assert answer.status == 502
        assert str(upstream.port) not in answer.text

    def test_it_says_nothing_of_the_server(self, client: Client) -> None:
        answer = answer_to(client, unknown_host())
        assert "Server" not in answer
        assert "Via" not in answer


class TestStatuses:
    """RFC 9110 section 15: each of the edge's own answers, and how the connection goes on."""

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"NONSENSE\r\n\r\n", 400),
            (request("GET /", host=None), 400),
            (request("GET /", host="unknown.test"), 404),
            (request("POST /", "Content-Length: 100"), 413),
            (request("GET /" + "a" * 9000), 414),
            (request("GET /", "Expect: magic"), 417),
            (request("GET /", "X: " + "y" * 40_000), 431),
            (request("CONNECT app.test:443"), 501),
            (request("GET / HTTP/3.0"), 505),
        ],
    )
    @pytest.mark.settings(max_body=10)
    def test_every_status_has_its_reason_and_a_body_of_its_length(
        self, client: Client, sent: bytes, status: int
    ) -> None:
        client.sends(sent)
        answer = client.receives_response()
        assert answer.status == status
        assert answer.reason
        assert len(answer.body) == int(answer["Content-Length"]) > 0

    def test_an_answer_of_the_upstream_is_not_dressed_up(
        self, client: Client, upstream: Upstream
    ) -> None:
        sent = response("404 Nope", "Content-Length: 4", "Content-Type: x/y", body="mine")
        answer = exchange(client, upstream, answered=sent).response
        assert (answer.text, answer["Content-Type"]) == ("mine", "x/y")

    def test_errors_are_counted_by_route_and_class(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        answer_to(client, unknown_host())
        exchange(client, upstream)
        metrics = edge.metrics()
        assert metrics['fairlead_http_requests_total{code="4xx",route=""}'] == 1
        assert metrics['fairlead_http_requests_total{code="2xx",route="app.test"}'] == 1
