"""Draining a target: nothing new comes to it, what is in flight ends, and only then it may go."""

import pytest

from edge.errors import RouteError
from edge.proxy.drain import DrainResult
from edge.upstream.target import Target
from tests.harness import (
    WAIT,
    Client,
    Conversation,
    Edge,
    Upstream,
    UpstreamConnection,
    exchange,
)
from tests.messages import chunk, ok, request, response


@pytest.fixture
def other(conversation: Conversation) -> Upstream:
    """Another target."""
    return Upstream(conversation)


def asked(client: Client, upstream: Upstream) -> UpstreamConnection:
    """The upstream connection that has received a request and owes the answer."""
    client.sends(request("GET /"))
    connection = upstream.accepts()
    connection.receives_request()
    return connection


def in_flight(edge: Edge, address: str) -> int:
    """Exchanges on `address`, tunnels aside, whether or not a route still names it."""
    return sum(target.in_flight - target.tunnels for target in targets_at(edge, address))


def tunnels(edge: Edge, address: str) -> int:
    """Open tunnels to `address`."""
    return sum(target.tunnels for target in targets_at(edge, address))


def targets_at(edge: Edge, address: str) -> list[Target]:
    state = edge.worker.state
    return [each for each in (*state.targets.values(), *state.retired) if each.address == address]


class TestWhatIsNew:
    """It goes elsewhere, or is told to come again."""

    def test_a_route_without_another_target_answers_503(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        assert edge.drains_target(upstream.target).result(WAIT) == DrainResult()
        client.sends(request("GET /"))
        answer = client.receives_response()
        assert answer.status == 503
        assert answer["Retry-After"] == "5"
        assert "draining" in answer.text
        upstream.accepts_nothing()
        client.sends(request("POST /", "Content-Length: 2", body="hi"))
        assert client.receives_response().status == 503

    @pytest.mark.parametrize("balance", ["round_robin", "least_in_flight"])
    def test_the_other_targets_get_it(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream, balance: str
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, balance=balance)
        edge.drains_target(upstream.target)
        connection = exchange(client, other).connection
        for _ in range(3):
            exchange(client, connection)
        upstream.accepts_nothing()

    def test_if_the_others_fail_it_is_not_tried_all_the_same(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        edge.drains_target(upstream.target)
        other.refuses()
        client.sends(request("GET /"))
        assert client.receives_response().status == 502
        upstream.accepts_nothing()

    def test_it_does_not_come_through_another_route(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """Nor matters that neither route has had a request before."""
        edge.routes("other.test", upstream.target)
        edge.drains_target(upstream.target)
        client.sends(request("GET /", host="other.test"))
        assert client.receives_response().status == 503

    def test_idle_connections_are_closed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        edge.drains_target(upstream.target)
        connection.sees_end()

    def test_other_spellings_of_the_address_are_the_same(
        self, edge: Edge, client: Client, conversation: Conversation
    ) -> None:
        upstream = Upstream(conversation, "::1")
        edge.routes("app.test", upstream.target)
        edge.drains_target(f"[0:0::1]:{upstream.port}")
        client.sends(request("GET /"))
        assert client.receives_response().status == 503

    def test_it_lasts_until_the_target_has_left_the_table(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        edge.drains_target(upstream.target)
        edge.routes("third.test", upstream.target)
        client.sends(request("GET /"))
        assert client.receives_response().status == 503
        edge.unroutes("third.test")
        edge.unroutes("app.test")
        assert edge.worker.state.draining_targets == ()
        edge.routes("app.test", upstream.target)
        connection = exchange(client, upstream).connection
        exchange(client, connection)

    def test_a_retry_does_not_go_where_it_is_draining(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        """The exchange has begun before the drain, and with the other target."""
        edge.routes("app.test", other.target, upstream.target)
        other.swallows()
        client.sends(request("GET /"))
        edge.settle()
        edge.drains_target(upstream.target)
        edge.advance(6)
        assert client.receives_response().status == 502
        upstream.accepts_nothing()

    def test_nor_where_it_was_before_the_target_left_the_table(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        """An exchange keeps the route that it has begun with."""
        edge.routes("app.test", upstream.target, other.target)
        connection = asked(client, upstream)
        second = edge.connects()
        other.swallows()
        second.sends(request("GET /"))
        edge.settle()
        drained = edge.drains_target(upstream.target)
        edge.routes("app.test", other.target)
        edge.advance(6)
        assert second.receives_response().status == 502
        upstream.accepts_nothing()
        connection.sends(ok("fine"))
        client.receives_response()
        assert drained.result(WAIT) == DrainResult(finished=1, seconds=6)
        assert edge.worker.state.draining_targets == ()


class TestWhatIsInFlight:
    """It is waited for, and cut when the time is over."""

    def test_it_is_finished(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        second = edge.connects()
        streaming = asked(second, upstream)
        streaming.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("one")))
        second.receives_head()
        drained = edge.drains_target(upstream.target, timeout=30)
        edge.advance(7)
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"
        connection.sees_end()
        assert not drained.done()
        streaming.sends(chunk("two") + chunk(""))
        second.receives_data("onetwo")
        second.receives_end()
        assert drained.result(WAIT) == DrainResult(finished=2, seconds=7)

    def test_the_clients_keep_their_connections(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        connection = asked(client, upstream)
        edge.drains_target(upstream.target)
        edge.routes("app.test", other.target)
        connection.sends(ok("old"))
        assert client.receives_response().text == "old"
        exchange(client, other)

    def test_the_timeout_cuts(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        second = edge.connects()
        streaming = asked(second, upstream)
        streaming.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("one")))
        second.receives_head()
        third = edge.connects()
        finishing = asked(third, upstream)
        drained = edge.drains_target(upstream.target, timeout=10)
        finishing.sends(ok("fine"))
        third.receives_response()
        edge.advance(9)
        assert not drained.done()
        edge.advance(1)
        assert drained.result(WAIT) == DrainResult(finished=1, cut=2, seconds=10)
        answer = client.receives_response()
        assert answer.status == 504
        assert "stopped" in answer.text
        second.sees_broken_body()
        connection.sees_end()
        streaming.sees_end()
        assert edge.metrics()['fairlead_upstream_errors_total{kind="drain_timeout"}'] == 2

    def test_without_time_it_is_cut_at_once(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        asked(client, upstream)
        drained = edge.drains_target(upstream.target, timeout=0)
        assert drained.result(WAIT) == DrainResult(cut=1)
        assert client.receives_response().status == 504

    def test_other_targets_are_not_touched(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        connection = asked(client, upstream)
        edge.connects()
        edge.routes("other.test", other.target)
        assert edge.drains_target(other.target, timeout=0).result(WAIT) == DrainResult()
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"

    def test_an_attempt_to_connect_is_in_flight(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        upstream.swallows()
        client.sends(request("GET /"))
        edge.settle()
        drained = edge.drains_target(upstream.target, timeout=3)
        assert in_flight(edge, upstream.target) == 1
        edge.advance(3)
        assert drained.result(WAIT) == DrainResult(cut=1, seconds=3)
        assert client.receives_response().status == 504

    def test_an_attempt_that_nobody_waits_for_is_waited_for(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        upstream.swallows()
        client.sends(request("GET /"))
        edge.settle()
        client.resets()
        edge.settle()
        drained = edge.drains_target(upstream.target, timeout=30)
        assert in_flight(edge, upstream.target) == 0
        assert not drained.done()
        edge.advance(6)
        assert drained.result(WAIT) == DrainResult(seconds=6)

    def test_one_that_cannot_connect_goes_to_the_next_target(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        upstream.swallows()
        client.sends(request("GET /"))
        edge.settle()
        drained = edge.drains_target(upstream.target, timeout=30)
        edge.advance(6)
        connection = other.accepts()
        connection.receives_request()
        assert drained.result(WAIT) == DrainResult(finished=1, seconds=6)
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"

    def test_the_next_request_of_one_that_is_cut_goes_elsewhere(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /1") + request("GET /2"))
        upstream.accepts().receives_request()
        drained = edge.drains_target(upstream.target, timeout=0)
        assert client.receives_response().status == 504
        assert client.receives_response().status == 503
        assert drained.result(WAIT) == DrainResult(cut=1)


class TestTargetsThatWereMovedAway:
    """A cutover: the route goes elsewhere first, then the old target is drained."""

    def test_what_no_route_names_any_more_is_waited_for(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        connection = asked(client, upstream)
        edge.routes("app.test", other.target)
        edge.advance(1)
        drained = edge.drains_target(upstream.target)
        assert not drained.done()
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"
        assert drained.result(WAIT) == DrainResult(finished=1)

    def test_one_that_leaves_the_table_during_the_drain_is_waited_for(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        asked(client, upstream)
        drained = edge.drains_target(upstream.target, timeout=20)
        edge.routes("app.test", other.target)
        edge.advance(1)
        assert not drained.done()
        edge.advance(19)
        assert drained.result(WAIT) == DrainResult(cut=1, seconds=20)

    def test_one_that_has_come_back_is_drained_with_what_it_was_before(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        before = asked(client, upstream)
        edge.routes("app.test", other.target)
        edge.routes("app.test", upstream.target)
        second = edge.connects()
        after = asked(second, upstream)
        assert in_flight(edge, upstream.target) == 2
        drained = edge.drains_target(upstream.target)
        after.sends(ok("after"))
        assert second.receives_response().text == "after"
        assert not drained.done()
        before.sends(ok("before"))
        assert client.receives_response().text == "before"
        assert drained.result(WAIT) == DrainResult(finished=2)

    def test_an_address_that_nobody_knows_is_drained_at_once(self, edge: Edge) -> None:
        assert edge.drains_target("127.0.0.1:1").result(WAIT) == DrainResult()
        assert edge.worker.state.draining_targets == ()
        assert in_flight(edge, "127.0.0.1:1") == 0
        assert edge.undrains_target("127.0.0.1:1") is False

    def test_without_a_table_too(self, edge: Edge) -> None:
        edge.worker.state.table = None
        assert edge.drains_target("127.0.0.1:1").result(WAIT) == DrainResult()

    def test_what_is_no_address_is_refused(self, edge: Edge) -> None:
        with pytest.raises(RouteError, match="has no port"):
            edge.drains_target("localhost").result(WAIT)
        with pytest.raises(RouteError, match="has no port"):
            edge.undrains_target("localhost")


class TestUndrain:
    """It goes on as if nothing had been."""

    def test_exchanges_come_again(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        edge.drains_target(upstream.target)
        assert edge.undrains_target(upstream.target) is True
        connection = exchange(client, upstream).connection
        exchange(client, connection)

    def test_a_drain_under_way_is_called_off(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = asked(client, upstream)
        drained = edge.drains_target(upstream.target, timeout=10)
        again = edge.drains_target(upstream.target, timeout=20)
        edge.undrains_target(upstream.target)
        for each in (drained, again):
            assert each.result(WAIT) == DrainResult(left=1)
        edge.advance(30)
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"
        exchange(client, connection)

    def test_others_stay_drained(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("other.test", other.target)
        connection = asked(client, upstream)
        drained = edge.drains_target(upstream.target)
        assert edge.drains_target(other.target).result(WAIT) == DrainResult()
        edge.undrains_target(other.target)
        connection.sends(ok("fine"))
        client.receives_response()
        assert drained.result(WAIT) == DrainResult(finished=1)
        connection.sees_end()
        client.sends(request("GET /"))
        assert client.receives_response().status == 503

    def test_what_has_left_the_table_stays_away(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        connection = asked(client, upstream)
        edge.routes("app.test", other.target)
        drained = edge.drains_target(upstream.target)
        edge.undrains_target(upstream.target)
        assert drained.result(WAIT) == DrainResult(left=1)
        connection.sends(ok("fine"))
        client.receives_response()
        connection.sees_end()

    def test_tunnels_stay(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = tunnel(client, upstream)
        drained = edge.drains_target(upstream.target, tunnel_timeout=5)
        edge.undrains_target(upstream.target)
        assert drained.result(WAIT) == DrainResult(left=1)
        edge.advance(100)
        client.sends(b"still here")
        connection.receives(b"still here")

    def test_tunnels_that_are_being_closed_go(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        tunnel(client, upstream)
        drained = edge.drains_target(upstream.target, tunnel_timeout=5)
        edge.advance(5)
        client.sees_eof()
        edge.undrains_target(upstream.target)
        assert drained.result(WAIT) == DrainResult(tunnels_closed=1, left=1, seconds=5)
        edge.advance(3)
        assert tunnels(edge, upstream.target) == 0


class TestNumbers:
    """What a worker says of an address."""

    def test_tunnels_are_counted_apart(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        tunnel(client, upstream)
        second = edge.connects()
        connection = asked(second, upstream)
        assert in_flight(edge, upstream.target) == 1
        assert tunnels(edge, upstream.target) == 1
        connection.sends(ok("fine"))
        second.receives_response()
        client.resets()
        edge.settle()
        assert in_flight(edge, upstream.target) == 0
        assert tunnels(edge, upstream.target) == 0

    def test_exchanges_are_cut_and_tunnels_are_not(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        second = edge.connects()
        asked(second, upstream)
        drained = edge.drains_target(upstream.target, timeout=0)
        assert second.receives_response().status == 504
        client.sends(b"still here")
        connection.receives(b"still here")
        assert not drained.done()
        client.resets()
        assert drained.result(WAIT) == DrainResult(cut=1)


def tunnel(client: Client, upstream: Upstream) -> UpstreamConnection:
    """The upstream's side of an open tunnel."""
    client.sends(request("GET /", "Connection: upgrade", "Upgrade: x"))
    connection = upstream.accepts()
    connection.receives_head()
    connection.sends(response("101 X", "Connection: upgrade", "Upgrade: x"))
    client.receives_head()
    return connection
