"""What the edge learns of in one turn of its loop, in either order, ends well in each of them."""

from collections.abc import Callable

import pytest

from tests.harness import Client, Edge, Upstream, UpstreamConnection, exchange
from tests.messages import chunk, ok, request, response

ORDERS = pytest.mark.parametrize("swapped", [False, True], ids=["in_order", "swapped"])


def at_once(edge: Edge, swapped: bool, *events: Callable[[], None]) -> None:
    """Lets all of it happen while the edge cannot look, in order or in reverse order."""
    with edge.held():
        for event in reversed(events) if swapped else events:
            event()


def asked(client: Client, upstream: Upstream) -> UpstreamConnection:
    """The upstream connection that has received a request and owes the answer."""
    client.sends(request("GET /"))
    connection = upstream.accepts()
    connection.receives_request()
    return connection


class TestEndsOfTheClient:
    """RFC 9112 section 9.6."""

    @ORDERS
    @pytest.mark.parametrize("end", ["resets", "closes"])
    @pytest.mark.parametrize(
        "answer",
        [
            ok("hello"),
            ok("hello", "Connection: close"),
            response("200 OK", "Transfer-Encoding: chunked", body=chunk("hello")),
            response("100 Continue"),
            b"NONSENSE\r\n\r\n",
            response("101 Switching Protocols", "Connection: upgrade", "Upgrade: x"),
        ],
    )
    def test_the_client_leaves_when_the_answer_comes(
        self, edge: Edge, client: Client, upstream: Upstream, answer: bytes, end: str, swapped: bool
    ) -> None:
        connection = asked(client, upstream)
        at_once(edge, swapped, getattr(client, end), lambda: connection.sends(answer))
        edge.advance(2)
        edge.advance(2)
        assert edge.metrics()["fairlead_client_connections_open"] == 0

    @ORDERS
    @pytest.mark.parametrize("end", ["resets", "closes"])
    def test_the_client_leaves_while_the_answer_streams(
        self, edge: Edge, client: Client, upstream: Upstream, end: str, swapped: bool
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", "Transfer-Encoding: chunked"))
        client.receives_head()
        at_once(edge, swapped, getattr(client, end), lambda: connection.sends(chunk("x" * 50_000)))
        edge.settle()
        connection.keeps_sending(chunk("more"))
        edge.settle()
        connection.keeps_sending(chunk("more"))
        connection.sees_end()

    @ORDERS
    @pytest.mark.parametrize("end", ["resets", "closes", "half_closes"])
    def test_both_sides_leave_at_once(
        self, edge: Edge, client: Client, upstream: Upstream, end: str, swapped: bool
    ) -> None:
        connection = asked(client, upstream)
        at_once(edge, swapped, client.resets, getattr(connection, end))
        edge.settle()
        assert edge.metrics()["fairlead_client_connections_open"] == 0

    @ORDERS
    @pytest.mark.parametrize("end", ["resets", "closes", "half_closes"])
    def test_the_upstream_leaves_while_the_client_sends(
        self, edge: Edge, client: Client, upstream: Upstream, end: str, swapped: bool
    ) -> None:
        client.sends(request("POST /", "Content-Length: 100000"))
        connection = upstream.accepts()
        connection.receives_head()
        at_once(edge, swapped, getattr(connection, end), lambda: client.sends(b"x" * 50_000))
        client.is_refused(502)

    @ORDERS
    def test_the_deadline_passes_when_the_client_leaves(
        self, edge: Edge, client: Client, upstream: Upstream, swapped: bool
    ) -> None:
        asked(client, upstream)

        def time_passes() -> None:
            edge.clock.now += 1000

        at_once(edge, swapped, client.resets, time_passes)
        edge.advance(1000)
        assert edge.metrics()["fairlead_client_connections_open"] == 0


class TestEndsOfTheUpstream:
    """RFC 9112 sections 9.3.1 and 9.5."""

    @ORDERS
    @pytest.mark.parametrize("end", ["resets", "closes", "half_closes"])
    def test_a_get_meets_the_end_of_an_idle_connection(
        self, edge: Edge, client: Client, upstream: Upstream, end: str, swapped: bool
    ) -> None:
        connection = exchange(client, upstream).connection
        at_once(
            edge, swapped, getattr(connection, end), lambda: client.sends(request("GET /again"))
        )
        fresh = upstream.accepts()
        assert fresh.receives_request().target == "/again"
        fresh.sends(ok("fine"))
        assert client.receives_response().text == "fine"

    def test_a_get_meets_the_end_of_an_idle_connection_that_was_never_used(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """It was opened for a request that another connection could serve sooner."""
        second, third = edge.connects(), edge.connects()
        connection = exchange(client, upstream).connection
        client.sends(request("GET /1"))
        connection.receives_request()
        with edge.held():
            second.sends(request("GET /2"))
            connection.sends(ok("one"))
        assert client.receives_response().text == "one"
        spare = upstream.accepts()
        edge.settle()
        if spare.has_received():
            connection, spare = spare, connection
        assert connection.receives_request().target == "/2"
        with edge.held():
            third.sends(request("GET /3"))
            spare.closes()
        fresh = upstream.accepts()
        assert fresh.receives_request().target == "/3"
        fresh.sends(ok("three"))
        assert third.receives_response().text == "three"

    @ORDERS
    @pytest.mark.parametrize("end", ["resets", "closes", "half_closes"])
    def test_a_post_meets_the_end_of_an_idle_connection(
        self, edge: Edge, client: Client, upstream: Upstream, end: str, swapped: bool
    ) -> None:
        """It is sent on a fresh connection or answered with 502, but never sent twice."""
        connection = exchange(client, upstream).connection
        sent = request("POST /", "Content-Length: 2", body="hi")
        at_once(edge, swapped, getattr(connection, end), lambda: client.sends(sent))
        fresh = upstream.accepts_if_connected()
        if fresh is not None:
            fresh.receives_request()
            fresh.sends(response("502 Mine", "Content-Length: 0"))
        assert client.receives_response().status == 502

    @ORDERS
    def test_a_get_meets_poison(
        self, edge: Edge, client: Client, upstream: Upstream, swapped: bool
    ) -> None:
        """The response was on its way before the request: it may answer nobody else's.

        The edge cannot know which came first where it learns of both at once; but what it takes
        for an answer is at most one response, to one request, and the connection is whole.
        """
        connection = exchange(client, upstream).connection
        early = ok("early")
        at_once(
            edge,
            swapped,
            lambda: connection.sends(early + ok("and one more")),
            lambda: client.sends(request("GET /again")),
        )
        fresh = upstream.accepts_if_connected()
        if fresh is None:
            connection.receives_request()
        else:
            fresh.receives_request()
            fresh.sends(early)
        assert client.receives_response().text == "early"
        client.receives_nothing()
        connection.sees_end()
        assert exchange(client, fresh or upstream).response.text == "hello"

    @pytest.mark.parametrize("end", ["closes", "half_closes"])
    @pytest.mark.parametrize(
        "answer",
        [
            ok("hello"),
            response("200 OK", "Transfer-Encoding: chunked", body=chunk("hello") + chunk("")),
            response("200 OK", body="hello"),
        ],
    )
    def test_an_answer_is_whole_although_the_upstream_leaves_with_it(
        self, edge: Edge, client: Client, upstream: Upstream, answer: bytes, end: str
    ) -> None:
        connection = asked(client, upstream)
        at_once(edge, False, lambda: connection.sends(answer), getattr(connection, end))
        assert client.receives_response().text == "hello"
        assert exchange(client, upstream).response.status == 200

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_connection_that_is_reset_as_soon_as_it_is_there_is_502(
        self, edge: Edge, upstream: Upstream, method: str
    ) -> None:
        """The reset comes before, while or after the edge learns that it is connected."""
        for _ in range(50):
            client = edge.connects()
            client.sends(request(f"{method} /", "Content-Length: 2", body="hi"))
            upstream.accepts().resets()
            assert client.receives_response().status == 502
            client.closes()

    def test_a_waiter_is_served_although_the_connection_it_waited_for_dies(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        clients = [edge.connects() for _ in range(20)]
        with edge.held():
            for client in clients:
                client.sends(request("GET /"))
        for _ in clients:
            upstream.accepts().resets()
        for client in clients:
            assert client.receives_response().status == 502


class TestTunnels:
    """RFC 9110 section 7.8."""

    @ORDERS
    @pytest.mark.parametrize("end", ["resets", "closes", "half_closes"])
    @pytest.mark.parametrize("other_end", ["resets", "closes", "half_closes"])
    def test_both_sides_of_a_tunnel_leave_at_once(
        self,
        edge: Edge,
        client: Client,
        upstream: Upstream,
        end: str,
        other_end: str,
        swapped: bool,
    ) -> None:
        client.sends(request("GET /", "Connection: upgrade", "Upgrade: x"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("101 X", "Connection: upgrade", "Upgrade: x"))
        client.receives_head()
        at_once(edge, swapped, getattr(client, end), getattr(connection, other_end))
        edge.settle()
        metrics = edge.metrics()
        assert metrics["fairlead_tunnels_open"] == 0
        assert metrics["fairlead_client_connections_open"] == 0

    @ORDERS
    @pytest.mark.parametrize("end", ["resets", "closes"])
    def test_one_side_of_a_tunnel_speaks_when_the_other_leaves(
        self, edge: Edge, client: Client, upstream: Upstream, end: str, swapped: bool
    ) -> None:
        client.sends(request("GET /", "Connection: upgrade", "Upgrade: x"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("101 X", "Connection: upgrade", "Upgrade: x"))
        client.receives_head()
        at_once(edge, swapped, getattr(client, end), lambda: connection.sends(b"x" * 50_000))
        edge.settle()
        connection.keeps_sending(b"more")
        edge.settle()
        connection.sees_end()
