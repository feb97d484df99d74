"""Timeouts and retries that a route has for itself, beside those of the settings."""

import pytest

from tests.harness import Client, Conversation, Edge, Upstream, exchange
from tests.messages import chunk, ok, request, response

HANDSHAKE = request("GET /", "Connection: Upgrade", "Upgrade: websocket")
SWITCH = response("101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket")

CONNECT_ERRORS = 'fairlead_upstream_errors_total{kind="connect"}'


@pytest.fixture
def impatient(edge: Edge, upstream: Upstream) -> None:
    """Beside app.test, a route to the same target that waits for 2 s at most, each time."""
    timeouts = dict.fromkeys(
        (f"{what}_timeout" for what in ("connect", "response", "stream", "body", "tunnel")), 2
    )
    edge.routes("impatient.test", upstream.target, **timeouts)


@pytest.mark.usefixtures("impatient")
class TestTimeouts:
    """What takes 3 s is too long for one route and not for the other."""

    def test_of_connecting(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        """The patient one is first in line, and stays there."""
        hasty = edge.connects()
        upstream.swallows()
        client.sends(request("GET /"))
        edge.settle()
        hasty.sends(request("GET /", host="impatient.test"))
        edge.advance(2.1)
        assert hasty.receives_response().status == 502
        client.receives_nothing()
        edge.advance(3)
        assert client.receives_response().status == 502

    def test_of_connecting_for_a_client_that_has_left(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        hasty = edge.connects()
        upstream.swallows()
        client.sends(request("GET /"))
        hasty.sends(request("GET /", host="impatient.test"))
        edge.settle()
        hasty.resets()
        edge.advance(2.1)
        client.receives_nothing()
        edge.advance(3)
        assert client.receives_response().status == 502

    def test_of_the_response(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        hasty = edge.connects()
        client.sends(request("GET /"))
        hasty.sends(request("GET /", host="impatient.test"))
        connections = [upstream.accepts(), upstream.accepts()]
        for connection in connections:
            connection.receives_request()
        edge.advance(1.9)
        hasty.receives_nothing()
        edge.advance(0.2)
        assert hasty.receives_response().status == 504
        edge.advance(57)
        client.receives_nothing()
        edge.advance(1)
        assert client.receives_response().status == 504

    def test_of_the_response_after_a_body(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("POST /", "Content-Length: 4", host="impatient.test"))
        connection = upstream.accepts()
        connection.receives_head()
        edge.advance(1.9)
        client.sends(b"body")
        connection.receives_data("body")
        edge.advance(1.9)
        client.receives_nothing()
        edge.advance(0.2)
        assert client.receives_response().status == 504

    def test_of_the_response_to_a_client_that_has_half_closed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """It is asked once whether it is still there; that does not prolong the time."""
        client.sends(request("GET /", host="impatient.test"))
        client.half_closes()
        upstream.accepts().receives_request()
        edge.advance(1.1)
        assert client.receives_response().status == 100
        edge.advance(1.1)
        assert client.receives_response().status == 504

    @pytest.mark.parametrize(
        "answer",
        [
            response("200 OK", "Transfer-Encoding: chunked"),
            response("200 OK", "Transfer-Encoding: chunked", body=chunk("tick")),
            response("200 OK", "Content-Length: 100", body="tick"),
        ],
    )
    def test_of_the_stream(
        self, edge: Edge, client: Client, upstream: Upstream, answer: bytes
    ) -> None:
        hasty = edge.connects()
        for each, host in ((client, "app.test"), (hasty, "impatient.test")):
            each.sends(request("GET /", host=host))
            connection = upstream.accepts()
            connection.receives_request()
            connection.sends(answer)
            each.receives_head()
            if b"tick" in answer:
                each.receives_data("tick")
        edge.advance(1.9)
        hasty.receives_no_data()
        edge.advance(0.2)
        hasty.sees_broken_body()
        client.receives_no_data()

    def test_of_the_stream_between_two_pieces(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /", host="impatient.test"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Content-Length: 40"))
        client.receives_head()
        for _ in range(5):
            edge.advance(1.9)
            connection.sends(b"tick")
            client.receives_data("tick")
        edge.advance(2.1)
        client.sees_broken_body()

    def test_of_the_stream_while_the_request_goes_on(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("POST /", "Content-Length: 10", body="he", host="impatient.test"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("tick")))
        client.receives_head()
        client.receives_data("tick")
        client.sends(b"ll")
        connection.receives_data("hell")
        edge.advance(2.1)
        client.sees_broken_body()

    def test_of_the_request_s_body(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        hasty = edge.connects()
        client.sends(request("POST /", "Content-Length: 4"))
        hasty.sends(request("POST /", "Content-Length: 4", host="impatient.test"))
        edge.advance(1.9)
        hasty.receives_nothing()
        edge.advance(0.2)
        hasty.is_refused(408)
        client.receives_nothing()

    def test_of_a_tunnel(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        client.sends(HANDSHAKE.replace(b"app.test", b"impatient.test"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(SWITCH)
        client.receives_head()
        for _ in range(3):
            edge.advance(1.9)
            connection.sends(b"tick")
            client.receives(b"tick")
        edge.advance(1.9)
        client.receives_nothing()
        edge.advance(0.2)
        client.sees_end()

    def test_a_change_holds_from_the_next_request_on(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /", host="impatient.test"))
        upstream.accepts().receives_request()
        edge.routes("impatient.test", upstream.target, response_timeout=10)
        edge.advance(2.1)
        assert client.receives_response().status == 504
        client.sends(request("GET /", host="impatient.test"))
        upstream.accepts().receives_request()
        edge.advance(9)
        client.receives_nothing()


class TestRetries:
    """RFC 9110 section 9.2.2."""

    @pytest.fixture
    def dead(self, conversation: Conversation) -> list[Upstream]:
        """Four targets that refuse."""
        servers = [Upstream(conversation) for _ in range(4)]
        for server in servers:
            server.refuses()
        return servers

    @pytest.mark.parametrize(("options", "attempts"), [({"retries": 0}, 1), ({"retries": 2}, 3)])
    def test_as_many_further_targets_are_tried_as_the_route_says(
        self,
        edge: Edge,
        client: Client,
        dead: list[Upstream],
        options: dict[str, object],
        attempts: int,
    ) -> None:
        edge.routes("app.test", *(server.target for server in dead), **options)
        client.sends(request("GET /"))
        assert client.receives_response().status == 502
        metrics = edge.metrics()
        assert metrics[CONNECT_ERRORS] == attempts
        assert metrics["fairlead_upstream_retries_total"] == attempts - 1

    @pytest.mark.parametrize("options", [{}, {"retries": 10}])
    def test_more_than_there_are_or_none_said_is_all_of_them(
        self, edge: Edge, client: Client, dead: list[Upstream], options: dict[str, object]
    ) -> None:
        edge.routes("app.test", *(server.target for server in dead), **options)
        client.sends(request("GET /"))
        assert client.receives_response().status == 502
        assert edge.metrics()[CONNECT_ERRORS] == 4

    def test_one_more_that_is_well_is_enough(
        self, edge: Edge, client: Client, upstream: Upstream, dead: list[Upstream]
    ) -> None:
        edge.routes("app.test", dead[0].target, upstream.target, retries=1)
        assert exchange(client, upstream).response.status == 200

    def test_a_client_is_in_step_after_a_502_without_a_retry(
        self, edge: Edge, client: Client, upstream: Upstream, dead: list[Upstream]
    ) -> None:
        edge.routes("app.test", dead[0].target, upstream.target, retries=0)
        client.sends(request("POST /", "Content-Length: 4", body="body") + request("GET /next"))
        assert client.receives_response().status == 502
        connection = upstream.accepts()
        assert connection.receives_request().target == "/next"
        connection.sends(ok("next"))
        assert client.receives_response().text == "next"

    @pytest.mark.parametrize("retries", [0, 1])
    def test_a_dead_reused_connection_is_replaced_only_if_retries_are_allowed(
        self, edge: Edge, client: Client, upstream: Upstream, retries: int
    ) -> None:
        edge.routes("app.test", upstream.target, retries=retries)
        connection = exchange(client, upstream).connection
        client.sends(request("GET /again"))
        connection.receives_request()
        connection.resets()
        if retries:
            second = upstream.accepts()
            assert second.receives_request().target == "/again"
            second.sends(ok("again"))
            assert client.receives_response().text == "again"
        else:
            assert client.receives_response().status == 502
            upstream.accepts_nothing()
