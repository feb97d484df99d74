"""What one client does must not reach another through the connections that they share."""

from tests.harness import Edge, Upstream
from tests.messages import ok, request

# One segment of the loopback interface, so the edge gets each answer in one piece and the client
# fills up between two exchanges, never inside one.
ANSWER = ok("x" * 32_000)
IN_FLIGHT = 'fairlead_http_requests_in_flight{route="app.test"}'


class TestFullClient:
    """RFC 9112 section 9.3: a connection outlives the exchange, and serves whoever comes next."""

    def test_a_client_that_does_not_read_leaves_the_upstream_usable(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        glutton = edge.connects(receive_buffer=4096)
        glutton.sends(request("GET /big") * 400)
        connection = upstream.accepts()
        # The next request follows in the same turn, unless the client is full.
        while connection.has_received():
            connection.receives_request()
            connection.sends(ANSWER)
        assert edge.metrics()[IN_FLIGHT] == 0
        client = edge.connects()
        client.sends(request("GET /small"))
        assert connection.receives_request().target == "/small"
        connection.sends(ok("small"))
        assert client.receives_response().text == "small"


class TestResetBeforeAccept:
    """A port scan: the connection is over before it is accepted."""

    def test_it_leaves_nothing_behind(self, edge: Edge, upstream: Upstream) -> None:
        with edge.held():
            for _ in range(50):
                scanner = edge.connects()
                scanner.sends(b"GET / HTTP/1.1\r\n")
                scanner.resets()
        edge.settle()
        client = edge.connects()
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("served"))
        assert client.receives_response().text == "served"
        assert edge.metrics()["fairlead_client_connections_open"] == 1
