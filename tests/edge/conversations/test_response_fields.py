"""The fields that a route sets on its responses, and those that it removes."""

import pytest

from tests.harness import Client, Edge, Upstream, exchange
from tests.messages import chunk, ok, request, response

SECURE = {"Strict-Transport-Security": "max-age=63072000", "X-Frame-Options": "DENY"}

ANSWERS = [
    ok("hello", "Server: a", "X-Frame-Options: ALLOW", "X-Powered-By: b", "x-powered-by: c"),
    response(
        "200 OK", "X-Powered-By: b", "Transfer-Encoding: chunked", body=chunk("hello") + chunk("")
    ),
    response("404 Not Found", "X-Powered-By: b", "Content-Length: 5", body="hello"),
]


class TestResponsesOfTheTarget:
    """RFC 9110 section 6.3: what the origin says, as the site wants it to be said."""

    @pytest.fixture(autouse=True)
    def route(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes(
            "app.test", upstream.target, set_fields=SECURE, remove_fields=["X-Powered-By", "Via"]
        )

    @pytest.mark.parametrize("answer", ANSWERS)
    def test_set_fields_take_the_place_of_the_target_s_and_removed_ones_are_gone(
        self, client: Client, upstream: Upstream, answer: bytes
    ) -> None:
        got = exchange(client, upstream, answered=answer).response
        for name, value in SECURE.items():
            assert got[name] == value
        assert "X-Powered-By" not in got
        assert got.text == "hello"
        assert "Date" in got

    def test_each_response_on_one_connection_is_changed(
        self, client: Client, upstream: Upstream
    ) -> None:
        """The same head again is not read again."""
        connection = exchange(client, upstream, answered=ANSWERS[0]).connection
        for answer in (ANSWERS[0], ANSWERS[0], ANSWERS[2], ANSWERS[0]):
            got = exchange(client, connection, answered=answer).response
            assert got["X-Frame-Options"] == "DENY"
            assert "X-Powered-By" not in got
            assert got.text == "hello"

    def test_two_routes_to_one_target_do_not_change_each_other_s_responses(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        edge.routes("plain.test", upstream.target)
        edge.routes("third.test", upstream.target, set_fields={"X-Third": "3"})
        connection = exchange(client, upstream, answered=ANSWERS[0]).connection
        for _ in range(2):
            for host, framing, third in (
                ("app.test", ["DENY"], []),
                ("plain.test", ["ALLOW"], []),
                ("third.test", ["ALLOW"], ["3"]),
            ):
                sent = request("GET /", host=host)
                got = exchange(client, connection, sent, ANSWERS[0]).response
                assert got.all("X-Frame-Options") == framing
                assert got.all("X-Third") == third
                assert ("X-Powered-By" in got) == (host != "app.test")

    @pytest.mark.parametrize("method", ["HEAD", "POST"])
    def test_it_is_so_for_other_methods_and_bodies(
        self, client: Client, upstream: Upstream, method: str
    ) -> None:
        client.sends(request(f"{method} /", "Content-Length: 4"))
        connection = upstream.accepts()
        connection.receives_head()
        client.sends(b"body")
        connection.receives_data("body")
        answer = ANSWERS[0] if method == "POST" else ANSWERS[0].removesuffix(b"hello")
        connection.sends(answer)
        assert client.receives_response(to=method)["X-Frame-Options"] == "DENY"

    def test_interim_responses_and_a_switch_stay_as_they_are(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /", "Connection: Upgrade", "Upgrade: websocket"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("103 Early Hints", "X-Powered-By: b"))
        early = client.receives_response()
        connection.sends(
            response("101 X", "Connection: Upgrade", "Upgrade: websocket", "X-Powered-By: b")
        )
        switched = client.receives_response()
        assert (early.status, switched.status) == (103, 101)
        for got in (early, switched):
            assert got["X-Powered-By"] == "b"
            assert "X-Frame-Options" not in got

    def test_a_change_of_the_route_is_in_the_next_response(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream, answered=ANSWERS[0]).connection
        edge.routes("app.test", upstream.target, set_fields={"X-Frame-Options": "SAMEORIGIN"})
        got = exchange(client, connection, answered=ANSWERS[0]).response
        assert got["X-Frame-Options"] == "SAMEORIGIN"
        assert len(got.all("X-Powered-By")) == 2


def test_the_server_field_can_be_set_although_that_of_the_target_is_hidden(
    edge: Edge, client: Client, upstream: Upstream
) -> None:
    edge.routes("app.test", upstream.target, set_fields={"Server": "ours"})
    assert exchange(client, upstream, answered=ANSWERS[0]).response["Server"] == "ours"


class TestErrorsOfTheEdge:
    """As `always` of nginx does it for security; but nothing that is said of the content."""

    @pytest.fixture(autouse=True)
    def route(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes(
            "app.test",
            upstream.target,
            set_fields={
                **SECURE,
                "Cache-Control": "max-age=31536000",
                "Content-Type": "text/html",
            },
            max_body=3,
        )

    def test_they_carry_what_holds_for_the_site(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        upstream.refuses()
        client.sends(request("GET /"))
        answer = client.receives_response()
        assert answer.status == 502
        for name, value in SECURE.items():
            assert answer[name] == value
        assert "Cache-Control" not in answer
        assert answer["Content-Type"] == "text/plain; charset=utf-8"

    def test_a_refusal_and_an_answer_as_the_last_hop_do_so_too(self, client: Client) -> None:
        client.sends(request("OPTIONS /", "Max-Forwards: 0"))
        assert client.receives_response()["X-Frame-Options"] == "DENY"
        client.sends(request("POST /", "Content-Length: 4", body="1234"))
        answer = client.receives_response()
        assert answer.status == 413
        assert answer["X-Frame-Options"] == "DENY"

    def test_where_no_route_is_known_there_is_nothing_to_set(self, client: Client) -> None:
        client.sends(request("GET /", host="other.test"))
        answer = client.receives_response()
        assert answer.status == 404
        assert "X-Frame-Options" not in answer
