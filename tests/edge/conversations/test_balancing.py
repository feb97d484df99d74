"""Which of several targets gets a request, and what happens when one of them is not there."""

import pytest

from tests.harness import (
    Client,
    Conversation,
    Edge,
    Exchange,
    Upstream,
    UpstreamConnection,
    exchange,
)
from tests.messages import ok, request


@pytest.fixture
def other(conversation: Conversation) -> Upstream:
    """A second upstream."""
    return Upstream(conversation)


class Turns:
    """Plays exchanges one after the other and tells which upstream each one went to."""

    def __init__(self, client: Client, **upstreams: Upstream) -> None:
        self._client = client
        self._upstreams = upstreams

    def take(self, count: int) -> str:
        """One letter per exchange."""
        return "".join(self._take_one() for _ in range(count))

    def _take_one(self) -> str:
        self._client.sends(request("GET /"))
        name, connection = self._first_connection()
        connection.receives_request()
        connection.sends(ok(name, "Connection: close"))
        connection.closes()
        assert self._client.receives_response().text == name
        return name

    def _first_connection(self) -> tuple[str, UpstreamConnection]:
        for _ in range(100):
            for name, upstream in self._upstreams.items():
                connection = upstream.accepts_if_connected()
                if connection is not None:
                    return name, connection
        return self._client.conversation.fails("no upstream got the request")


class TestRoundRobin:
    """RFC 9110 section 3.7: a gateway may distribute load."""

    def test_targets_take_turns(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        turns = Turns(client, a=upstream, b=other).take(6)
        assert turns in ("ababab", "bababa")

    def test_weights_are_kept_and_spread(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes(
            "app.test", upstream.target, other.target, weights={upstream.target: 3, other.target: 1}
        )
        turns = Turns(client, a=upstream, b=other).take(12)
        assert turns.count("a") == 9
        assert turns.count("b") == 3
        assert "aaaa" not in turns

    def test_keep_alive_connections_take_turns_too(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        first: Exchange = exchange(client, upstream)
        second = exchange(client, other)
        for connection in (first.connection, second.connection) * 2:
            assert exchange(client, connection).response.status == 200

    def test_each_target_gets_its_own_host_where_the_route_says_so(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, host="target")
        assert exchange(client, upstream).request["Host"] == upstream.target
        assert exchange(client, other).request["Host"] == other.target

    def test_the_host_is_that_of_the_target_that_takes_over(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, host="target")
        upstream.refuses()
        assert exchange(client, other).request["Host"] == other.target


class TestLeastInFlight:
    """The target with the fewest exchanges under way is the one that can answer soonest."""

    def test_a_busy_target_is_spared(self, edge: Edge, upstream: Upstream, other: Upstream) -> None:
        edge.routes("app.test", upstream.target, other.target, balance="least_in_flight")
        slow = edge.connects()
        slow.sends(request("GET /slow"))
        edge.settle()
        busy = upstream.accepts_if_connected()
        free = other
        if busy is None:
            busy, free = other.accepts(), upstream
        busy.receives_request()
        turns = Turns(edge.connects(), free=free).take(4)
        assert turns == "free" * 4
        busy.sends(ok("at last"))
        assert slow.receives_response().text == "at last"

    def test_weights_say_how_much_each_can_bear(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes(
            "app.test",
            upstream.target,
            other.target,
            balance="least_in_flight",
            weights={upstream.target: 3, other.target: 1},
        )
        for number in range(8):
            edge.connects().sends(request(f"GET /{number}"))
            edge.settle()
        counts = [0, 0]
        for index, server in enumerate((upstream, other)):
            while server.accepts_if_connected() is not None:
                counts[index] += 1
        assert counts == [6, 2]


class TestRefusedTargets:
    """RFC 9110 section 9.2.2: nothing was sent, so any request may go to the next target."""

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_refused_request_goes_to_the_next_target(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream, method: str
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        other.refuses()
        for _ in range(2):
            sent = request(f"{method} /", "Content-Length: 2", body="hi")
            done = exchange(client, upstream, sent, ok("here", "Connection: close"))
            assert (done.request.text, done.response.text) == ("hi", "here")

    def test_a_body_that_still_comes_goes_to_the_next_target(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", other.target, upstream.target)
        other.refuses()
        client.sends(request("POST /", "Transfer-Encoding: chunked", body=b"3\r\none\r\n"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.receives_data("one")
        client.sends(b"3\r\ntwo\r\n0\r\n\r\n")
        connection.receives_data("two")
        connection.receives_end()
        connection.sends(ok("both"))
        assert client.receives_response().text == "both"

    def test_a_refusing_target_is_passed_over_and_then_tried_again(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        other.refuses()
        turns = Turns(client, a=upstream, b=other)
        assert turns.take(4) == "aaaa"
        other.listens()
        assert turns.take(4) == "aaaa"
        edge.advance(31)
        assert "b" in turns.take(4)

    def test_the_time_grows_with_each_failure(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        other.refuses()
        turns = Turns(client, a=upstream)
        failures = []
        for _ in range(40):
            turns.take(2)
            failures.append(edge.metrics().get('fairlead_upstream_errors_total{kind="connect"}', 0))
            edge.advance(1)
        halves = failures[19] - failures[0], failures[39] - failures[20]
        assert halves[0] > halves[1]

    def test_where_all_refuse_the_answer_is_502(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        upstream.refuses()
        other.refuses()
        for _ in range(3):
            client.sends(request("GET /"))
            assert client.receives_response().status == 502

    def test_the_only_target_is_tried_although_it_refused(
        self, client: Client, upstream: Upstream
    ) -> None:
        """Passing it over would help nobody."""
        upstream.refuses()
        client.sends(request("GET /"))
        assert client.receives_response().status == 502
        upstream.listens()
        assert exchange(client, upstream).response.status == 200

    def test_a_502_for_a_post_leaves_the_client_in_step(
        self, client: Client, upstream: Upstream
    ) -> None:
        upstream.refuses()
        inner = request("GET /smuggled")
        client.sends(request("POST /", f"Content-Length: {len(inner)}", body=inner))
        assert client.receives_response().status == 502
        upstream.listens()
        upstream.accepts_nothing()


class TestDeadReusedConnections:
    """RFC 9112 section 9.3.1: a connection that was closed while it was idle."""

    @pytest.mark.parametrize("end", ["closes", "resets"])
    def test_a_get_is_repeated_on_a_fresh_connection(
        self, client: Client, upstream: Upstream, end: str
    ) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("GET /again"))
        connection.receives_request()
        getattr(connection, end)()
        assert exchange_is_answered(client, upstream) == "/again"

    @pytest.mark.parametrize("end", ["closes", "resets"])
    def test_a_post_is_not_repeated(self, client: Client, upstream: Upstream, end: str) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("POST /", "Content-Length: 0"))
        connection.receives_request()
        getattr(connection, end)()
        assert client.receives_response().status == 502
        upstream.accepts_nothing()

    def test_the_repetition_is_on_a_fresh_connection_and_not_on_another_old_one(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        second_client = edge.connects()
        client.sends(request("GET /1"))
        second_client.sends(request("GET /2"))
        first, second = upstream.accepts(), upstream.accepts()
        # Both before either is answered: a connection that is free again would take both.
        for connection in (first, second):
            connection.receives_request()
        for connection in (first, second):
            connection.sends(ok())
        client.receives_response()
        second_client.receives_response()
        client.sends(request("GET /again"))
        edge.settle()
        used = first if first.has_received() else second
        used.receives_request()
        used.resets()
        assert exchange_is_answered(client, upstream) == "/again"

    def test_repetitions_are_counted(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("GET /"))
        connection.receives_request()
        connection.resets()
        exchange_is_answered(client, upstream)
        assert edge.metrics()["fairlead_upstream_retries_total"] == 1


def exchange_is_answered(client: Client, upstream: Upstream) -> str:
    """A request that is under way arrives on a new connection and is answered."""
    connection = upstream.accepts()
    target = connection.receives_request().target
    connection.sends(ok("second time"))
    assert client.receives_response().text == "second time"
    return target
