"""Connections to upstreams are kept, used in the right order, bounded and given up in time."""

import pytest

from tests.harness import Client, Edge, Upstream, UpstreamConnection, exchange
from tests.messages import chunks, ok, request, response


def open_at_once(edge: Edge, upstream: Upstream, count: int) -> list[UpstreamConnection]:
    """As many idle upstream connections, the first one idle for the longest time."""
    clients = [edge.connects() for _ in range(count)]
    for client in clients:
        client.sends(request("GET /"))
    connections = [upstream.accepts() for _ in clients]
    for connection in connections:
        connection.receives_request()
    for connection in connections:
        connection.sends(ok("done", "X: y"))
        edge.settle()
    for client in clients:
        assert client.receives_response().text == "done"
        client.closes()
    return connections


class TestReuse:
    """RFC 9112 section 9.3."""

    def test_a_connection_serves_many_requests_of_many_clients(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        connection = exchange(edge.connects(), upstream).connection
        for _ in range(5):
            assert exchange(edge.connects(), connection).response.status == 200
        upstream.accepts_nothing()

    @pytest.mark.parametrize(
        "answer",
        [
            ok("hello"),
            response("200 OK", "Transfer-Encoding: chunked", body=chunks("hello")),
            response("204 No Content"),
            response("304 Not Modified", "Content-Length: 100"),
            response("500 Internal Server Error", "Content-Length: 0"),
            response("100 Continue") + ok("hello"),
        ],
    )
    def test_after_a_whole_response_the_connection_is_kept(
        self, edge: Edge, upstream: Upstream, answer: bytes
    ) -> None:
        client = edge.connects()
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(answer)
        while client.receives_response().status < 200:
            pass
        assert exchange(client, connection).response.status == 200

    def test_simultaneous_requests_have_connections_of_their_own(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        clients = [edge.connects() for _ in range(3)]
        for number, client in enumerate(clients):
            client.sends(request(f"GET /{number}"))
        connections = [upstream.accepts() for _ in clients]
        asked = [int(connection.receives_request().target[1:]) for connection in connections]
        assert sorted(asked) == [0, 1, 2]
        for number, connection in zip(asked, connections, strict=True):
            connection.sends(ok(f"for {number}"))
            assert clients[number].receives_response().text == f"for {number}"

    def test_the_most_recently_used_connection_serves_next(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        oldest, middle, newest = open_at_once(edge, upstream, 3)
        client = edge.connects()
        for _ in range(2):
            exchange(client, newest)
        middle.receives_nothing()
        oldest.receives_nothing()
        slow = edge.connects()
        slow.sends(request("GET /slow"))
        newest.receives_request()
        exchange(client, middle)

    def test_hits_and_misses_are_counted(self, edge: Edge, upstream: Upstream) -> None:
        client = edge.connects()
        connection = exchange(client, upstream).connection
        exchange(client, connection)
        exchange(client, connection)
        metrics = edge.metrics()
        assert metrics["fairlead_upstream_pool_misses_total"] == 1
        assert metrics["fairlead_upstream_pool_hits_total"] == 2

    def test_routes_with_the_same_target_share_its_connections(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("other.test", upstream.target)
        connection = exchange(edge.connects(), upstream).connection
        done = exchange(edge.connects(), connection, request("GET /", host="other.test"))
        assert done.request["Host"] == "other.test"

    def test_a_waiting_request_takes_a_connection_that_comes_free(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        """Whatever is there first, the one that is being opened or one that is given back."""
        first, second = edge.connects(), edge.connects()
        connection = exchange(first, upstream).connection
        first.sends(request("GET /1"))
        connection.receives_request()
        second.sends(request("GET /2"))
        connection.sends(ok("one"))
        assert first.receives_response().text == "one"
        other = upstream.accepts()
        edge.settle()
        served = other if other.has_received() else connection
        assert served.receives_request().target == "/2"
        served.sends(ok("two"))
        assert second.receives_response().text == "two"


class TestBounds:
    """RFC 9112 section 9.4: how many, and for how long."""

    @pytest.mark.settings(pool_size=2)
    def test_no_more_than_the_limit_stay_idle(self, edge: Edge, upstream: Upstream) -> None:
        oldest, middle, newest = open_at_once(edge, upstream, 3)
        edge.advance(1)
        oldest.sees_eof()
        middle.receives_nothing()
        newest.receives_nothing()

    @pytest.mark.settings(pool_size=0)
    def test_without_a_pool_no_connection_stays(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        for _ in range(3):
            connection = exchange(client, upstream).connection
            edge.advance(1)
            connection.sees_eof()

    def test_an_idle_connection_is_closed_after_its_time(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        edge.advance(59)
        connection.receives_nothing()
        edge.advance(2)
        connection.sees_eof()
        assert exchange(client, upstream).response.status == 200

    @pytest.mark.settings(pool_idle=5)
    def test_the_setting_decides(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = exchange(client, upstream).connection
        edge.advance(5.1)
        connection.sees_eof()

    def test_use_begins_the_time_anew(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = exchange(client, upstream).connection
        for _ in range(4):
            edge.advance(50)
            exchange(client, connection)

    def test_the_upstream_may_ask_for_a_shorter_time(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """RFC 2068 section 19.7.1: Keep-Alive with timeout, as nginx and others send it."""
        connection = exchange(
            client, upstream, answered=ok("hi", "Keep-Alive: timeout=10, max=100")
        ).connection
        edge.advance(11)
        connection.sees_eof()


class TestDeadConnections:
    """RFC 9112 section 9.5: the other side may close at any time."""

    @pytest.mark.parametrize("end", ["closes", "resets", "half_closes"])
    def test_a_dead_idle_connection_is_noticed_and_not_used(
        self, edge: Edge, client: Client, upstream: Upstream, end: str
    ) -> None:
        connection = exchange(client, upstream).connection
        getattr(connection, end)()
        edge.settle()
        done = exchange(client, upstream, request("POST /", "Content-Length: 2", body="hi"))
        assert done.request.text == "hi"

    def test_only_the_dead_one_is_given_up(self, edge: Edge, upstream: Upstream) -> None:
        first, second, third = open_at_once(edge, upstream, 3)
        third.closes()
        edge.settle()
        client = edge.connects()
        exchange(client, second)
        slow = edge.connects()
        slow.sends(request("GET /slow"))
        second.receives_request()
        exchange(client, first)

    def test_a_connection_whose_target_is_gone_from_the_table_is_closed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        edge.unroutes("app.test")
        edge.advance(1)
        connection.sees_eof()


class TestPoison:
    """RFC 9112 sections 6.3 and 9.2: bytes on an idle connection belong to nobody."""

    @pytest.mark.parametrize("poison", [b"x", b"\r\n", b"HTTP/1.1 200 OK\r\n", ok("evil")])
    def test_a_connection_that_speaks_while_idle_is_closed(
        self, edge: Edge, client: Client, upstream: Upstream, poison: bytes
    ) -> None:
        connection = exchange(client, upstream).connection
        connection.sends(poison)
        connection.sees_end()
        client.receives_nothing()
        assert exchange(client, upstream).response.text == "hello"

    def test_a_connection_that_speaks_before_any_request_is_not_used(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """A response that came before its request cannot be the answer to it."""
        open_at_once(edge, upstream, 1)[0].sends(ok("too early"))
        edge.settle()
        assert exchange(client, upstream).response.text == "hello"
